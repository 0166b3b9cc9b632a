"""`python -m peers` (tests and benchmarks on the path): measures all systems in one run and prints the figures.

The systems take turns within each repetition; each repetition starts with another one. The broker and Redis are
found
as in the tests: ANABRANCH_TEST_BROKERS and ANABRANCH_TEST_REDIS_URL, else they are started. Use a Redis for tests:
results remain in it for minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from servers.finder import find_kafka, find_redis
from servers.process import ServerUnavailableError

from peers.chart import svg
from peers.machine import libraries, machine
from peers.outcomes import NOT_DONE, OVER, Figure, Outcome, markdown, plain, table
from peers.systems import Broken, OverLimit, Servers, System, all_systems

ROOT = Path(__file__).resolve().parents[2]
SIZES = (200, 5_000, 20_000, 100_000)
CHART = "peers.svg"


class Measuring:
    """Collects figures. After a fan-out exceeded the limit, its size and larger ones are not tried again."""

    def __init__(self, servers: Servers, folder: Path, sizes: Sequence[int], limit: float) -> None:
        self._servers = servers
        self._folder = folder
        self._sizes = sorted(sizes)
        self._limit = limit
        self._seconds: dict[tuple[str, int], list[float]] = {}
        self._missing: dict[tuple[str, int], str] = {}

    def repeat(self, system: System, repetition: int) -> None:
        """Measure all sizes once, on new workers."""
        unique = f"peers{os.getpid()}{system.name.lower()}{repetition}"
        with system.workers(self._servers, self._folder, unique):
            for tasks in self._sizes:
                if (system.name, tasks) not in self._missing and not self._measured(system, unique, tasks):
                    return

    def figures(self, systems: Sequence[System]) -> list[Figure]:
        """The figures collected so far."""
        keys = [(system.name, tasks) for system in systems for tasks in self._sizes]
        return [Figure(*key, tuple(self._seconds.get(key, ())), self._missing.get(key, "")) for key in keys]

    def _measured(self, system: System, unique: str, tasks: int) -> bool:
        """Measure one size; returns False if the workers cannot be used any further."""
        try:
            seconds = system.fan_out(self._servers, unique, tasks, self._limit)
        except OverLimit:
            self._skip_larger(system, tasks, f"{OVER} {self._limit:g} s")
            return False
        except Broken as error:
            print(f"{system.name}, {tasks:,}: {error}", file=sys.stderr)
            self._skip_larger(system, tasks, "failed")
            return False
        print(f"{system.name}, {tasks:,}: {seconds:.2f} s", file=sys.stderr, flush=True)
        self._seconds.setdefault((system.name, tasks), []).append(seconds)
        return True

    def _skip_larger(self, system: System, tasks: int, reason: str) -> None:
        print(f"{system.name}, {tasks:,}: {reason}", file=sys.stderr, flush=True)
        for size in self._sizes:
            if size >= tasks:
                self._missing[system.name, size] = reason if size == tasks else NOT_DONE


def main() -> int:
    arguments = _arguments()
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, _leave)
    systems = _chosen(arguments.only)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-peers-")))
        try:
            servers = _servers(stack, folder)
        except ServerUnavailableError as missing:
            print(f"peers: {missing}", file=sys.stderr)
            return 4
        outcome = _measure(systems, servers, folder, arguments)
    print(json.dumps(outcome.to_document(), indent=2) if arguments.json else plain(table(outcome)))
    if arguments.write is not None:
        _write(outcome, arguments.write)
    return 0


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit through all contexts, so that no worker and no server keeps running."""
    raise SystemExit(130)


def _measure(systems: list[System], servers: Servers, folder: Path, arguments: argparse.Namespace) -> Outcome:
    for system in systems:
        system.prepare()
    found = machine()
    measuring = Measuring(servers, folder, arguments.tasks, arguments.limit)
    for repetition in range(arguments.repeat):
        first = repetition % len(systems)
        for system in systems[first:] + systems[:first]:
            measuring.repeat(system, repetition)
    settings = {system.name: system.settings for system in systems}
    command = f"make bench-peers PEERS_ARGUMENTS={shlex.quote(shlex.join(sys.argv[1:]))}"
    return Outcome(arguments.limit, arguments.repeat, found, command, settings, measuring.figures(systems))


def _servers(stack: ExitStack, folder: Path) -> Servers:
    kafka, redis = find_kafka(folder / "kafka"), find_redis(folder / "redis")
    for server in (kafka, redis):
        server.start()
        stack.callback(server.stop)
    return Servers(kafka.address, redis.address)


def _write(outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHART).write_text(svg(outcome))
    (folder / "peers.md").write_text(markdown(outcome, CHART))
    (folder / "peers.json").write_text(json.dumps(outcome.to_document(), indent=2) + "\n")


def _chosen(names: Sequence[str] | None) -> list[System]:
    systems = all_systems(ROOT / ".servers" / "peers", libraries())
    if names is None:
        return systems
    unknown = {name.lower() for name in names} - {system.name.lower() for system in systems}
    if unknown:
        names = ", ".join(system.name for system in systems)
        raise SystemExit(f"peers: there is no system {', '.join(sorted(unknown))}; use some of {names}")
    return [system for system in systems if system.name.lower() in {name.lower() for name in names}]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=SIZES, help="sizes of the fan-outs")
    parser.add_argument("--repeat", type=int, default=3, help="number of repetitions; the median is reported")
    parser.add_argument("--limit", type=float, default=60.0, help="maximum duration of one fan-out, in seconds")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="measure only these systems")
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of the table")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write peers.md, .svg and .json to this folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
