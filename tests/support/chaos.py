"""Faults by seed: faults of services and servers under load, in an order that the seed determines.

`ANABRANCH_CHAOS_SEED` selects another seed, `ANABRANCH_CHAOS_MIX` other shares: `kill=4,freeze=1,broker=0`. The
same seed gives the same faults in the same order; their effects depend on the machine.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster import Cluster, Process
from cutting_proxy import CuttingProxy
from servers.process import ServerHandle

MIX: Mapping[str, int] = {
    "kill": 6,
    "freeze": 2,
    "roll": 2,
    "cut": 2,
    "redis killed": 1,
    "redis emptied": 1,
    "redis frozen": 1,
    "broker frozen": 1,
    "broker killed": 1,
}
"""Default shares of the kinds of fault."""
FROZEN_SECONDS = (10.0, 14.0)
"""Longer than the session timeout of the consumer groups (8 s), so that the group continues without it."""
AWAY_SECONDS = (1.0, 6.0)
WORKER = ("--agents", "system_agents", "--concurrency", "8")


def chosen_seed(default: int) -> int:
    """The seed from the environment, else this one."""
    return int(os.environ.get("ANABRANCH_CHAOS_SEED", default))


def chosen_mix(default: Mapping[str, int] = MIX) -> dict[str, int]:
    """Return the default shares, overridden by those in the environment.

    Raises:
        ValueError: an unknown kind, or not a number.
    """
    mix = dict(default)
    for entry in filter(None, os.environ.get("ANABRANCH_CHAOS_MIX", "").split(",")):
        kind, _, share = entry.partition("=")
        if kind not in MIX:
            raise ValueError(f"ANABRANCH_CHAOS_MIX: unknown fault {kind!r}; use one of {', '.join(MIX)}")
        mix[kind] = int(share)
    return mix


def draw(dice: random.Random, mix: Mapping[str, int]) -> str:
    """Choose one kind of fault according to its share."""
    return dice.choices(list(mix), list(mix.values()))[0]


@dataclass
class Injector:
    """Injects faults and their later parts, and restarts ended services, as a process supervisor does.

    Processes in `spared` are frozen and cut off like all others, but are never killed.
    """

    cluster: Cluster
    dice: random.Random
    redis: ServerHandle | None = None
    broker: ServerHandle | None = None
    proxy: CuttingProxy | None = None
    spared: Sequence[Process] = ()
    done: Counter[str] = field(default_factory=Counter)
    ended: list[str] = field(default_factory=list)
    """Services that ended without being asked to."""
    _later: list[tuple[Callable[[], bool], Callable[[], object]]] = field(default_factory=list)
    _leaving: set[int] = field(default_factory=set)
    _frozen: set[int] = field(default_factory=set)
    _replaced: set[int] = field(default_factory=set)

    @property
    def is_quiet(self) -> bool:
        """True if nothing is frozen, unavailable or shutting down."""
        return not self._later

    def inject(self, kind: str) -> None:
        """Begin one fault; `step` ends it."""
        self.done[kind] += 1
        {
            "kill": self._kill,
            "freeze": self._freeze,
            "roll": self._roll,
            "cut": self._cut,
            "redis killed": lambda: self._restart(self.redis),
            "redis emptied": lambda: self._restart(self.redis, empty=True),
            "redis frozen": lambda: self._pause(self.redis),
            "broker killed": lambda: self._restart(self.broker),
            "broker frozen": lambda: self._pause(self.broker),
        }[kind]()

    def step(self) -> None:
        """Perform everything that is due by now."""
        due = [each for each in self._later if each[0]()]
        self._later = [each for each in self._later if each not in due]
        for _, action in due:
            action()
        for process in list(self.cluster.processes):
            if process.popen.poll() is not None and process.popen.pid not in self._replaced:
                self._replaced.add(process.popen.pid)
                self._replace(process)

    def settle(self, seconds: float) -> None:
        """Wait until every fault has ended."""
        deadline = time.monotonic() + seconds
        while self._later:
            assert time.monotonic() < deadline, f"faults did not end within {seconds:g} s"
            self.step()
            time.sleep(0.05)

    def _replace(self, process: Process) -> None:
        if process.popen.pid not in self._leaving:
            end = process.log.read_text()[-2_000:]
            self.ended.append(
                f"{process.service} ended with code {process.popen.returncode}: {process.log}\n{end}"
            )
            self._start(process.service)

    def _start(self, service: str) -> Process:
        return self.cluster.start(service, *(WORKER if service == "taskgroup" else ()))

    def _victim(self, *, mortal: bool) -> Process | None:
        awake = [p for p in self.cluster.processes if p.popen.poll() is None and p.popen.pid not in self._frozen]
        allowed = [p for p in awake if not (mortal and p in self.spared) and p.popen.pid not in self._leaving]
        return self.dice.choice(allowed) if allowed else None

    def _kill(self) -> None:
        victim = self._victim(mortal=True)
        if victim is not None:
            self.done[f"kill {victim.service}"] += 1
            # First: otherwise `step` reports it as ended by itself, and starts another successor.
            self._leaving.add(victim.popen.pid)
            victim.kill()
            self._start(victim.service)

    def _freeze(self) -> None:
        victim = self._victim(mortal=False)
        if victim is not None:
            self._frozen.add(victim.popen.pid)
            victim.suspend()
            self._in(self.dice.uniform(*FROZEN_SECONDS), lambda: self._thaw(victim))

    def _thaw(self, victim: Process) -> None:
        self._frozen.discard(victim.popen.pid)
        victim.resume()

    def _roll(self) -> None:
        """Start a successor, then send SIGTERM, as a rolling update does."""
        victim = self._victim(mortal=True)
        if victim is not None:
            self._leaving.add(victim.popen.pid)
            successor = self._start(victim.service)
            self._later.append((lambda: _is_up(successor), victim.popen.terminate))

    def _cut(self) -> None:
        if self.proxy is not None:
            self.proxy.cut_after(200, 20_000)
            self._in(self.dice.uniform(*AWAY_SECONDS), self.proxy.go_on)

    def _restart(self, server: ServerHandle | None, *, empty: bool = False) -> None:
        """Restart it with the data on its disk: Redis may lack the last second."""
        if server is not None:
            server.kill()
            if empty:
                server.wipe()
            server.start()

    def _pause(self, server: ServerHandle | None) -> None:
        if server is not None:
            server.pause()
            self._in(self.dice.uniform(*AWAY_SECONDS), server.resume)

    def _in(self, seconds: float, action: Callable[[], object]) -> None:
        at = time.monotonic() + seconds
        self._later.append((lambda: time.monotonic() >= at, action))


def _is_up(process: Process) -> bool:
    # A successor that ended counts, too: otherwise its predecessor would never be stopped.
    return b" ready" in process.log.read_bytes() or process.popen.poll() is not None
