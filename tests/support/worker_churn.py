"""Workers that start and stop, and control records for random runs, all by a seed."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chaos import WORKER
from cluster import FINAL, Cluster, Process, Seen, User, await_true
from requests_made import echo, fan_out, request

KINDS: Mapping[str, int] = {"pause": 4, "resume": 4, "cancel": 2, "retry": 2}
"""Shares of the kinds of control records."""
LEAST_WORKERS = 3
RECENT = 8
"""Number of latest runs of which most are probably open."""


@dataclass
class Workers:
    """Starts TaskGroups, `total` in all, and ends some by SIGTERM or SIGKILL."""

    cluster: Cluster
    dice: random.Random
    total: int
    leaving: list[Process] = field(default_factory=list)

    def step(self) -> None:
        """Start one worker, or end one."""
        running = [each for each in self.cluster.of("taskgroup") if each not in self.leaving]
        if len(running) > LEAST_WORKERS and self.dice.random() < 0.5:
            self._end(self.dice.choice(running))
        elif self.started < self.total:
            self.cluster.start("taskgroup", *WORKER)

    @property
    def started(self) -> int:
        return sum(each.service == "taskgroup" for each in self.cluster.processes)

    def _end(self, worker: Process) -> None:
        self.leaving.append(worker)
        if self.dice.random() < 0.5:
            worker.popen.terminate()
        else:
            worker.kill()

    def ended_by_themselves(self) -> list[str]:
        """The logs of services that ended without a signal from this object."""
        ended = [each for each in self.cluster.processes if each.popen.poll() is not None]
        return [each.log.read_text()[-2_000:] for each in ended if each not in self.leaving]


@dataclass
class Controls:
    """Sends requests, and control records for their runs.

    Records about one run have its request id as key, so they are in one partition, in order.
    """

    user: User
    dice: random.Random
    members: int
    sent: int = 0
    ids: list[str] = field(default_factory=list)
    """Request ids of requests, and of the runs that retries start."""

    def ask(self) -> None:
        """Send another request: a fan-out, and a second one over its list."""
        first = fan_out(self.members) | {"agent": "traced", "inputs": {"seconds": 0.2, "value": "{n}"}}
        config = {"type": "array", "array_mapping": {"x": "out"}}
        second = echo("{x}", name="again", key="again", dependencies=["out"], expansion_config=config)
        document = request(first, second)
        self.ids.append(document["request_id"])
        self._produce(document, document["request_id"])

    def control(self) -> None:
        """Send a control record of a random kind for a random run, usually a recent one."""
        about = self.dice.choice(self.ids[-RECENT:] if self.dice.random() < 0.7 else self.ids)
        record = self._record(self.dice.choices(list(KINDS), list(KINDS.values()))[0], about)
        self.sent += 1
        self._produce(record, about)

    def _record(self, kind: str, about: str) -> dict[str, Any]:
        if kind != "retry":
            return {"type": kind, "request_id": about}
        # Only the UUID of the first request: a retry of a retry must not get an ever longer id.
        self.ids.append(f"{about[:36]}-{self.sent}")
        return {"type": kind, "request_id": about, "failed": True, "new_request_id": self.ids[-1]}

    def resume_all(self) -> None:
        for each in self.ids:
            self._produce({"type": "resume", "request_id": each}, each)

    def _produce(self, document: dict[str, Any], key: str) -> None:
        topic = self.user.cluster.prefix + "requests"
        self.user.producer.produce(topic, json.dumps(document).encode(), key=key)
        self.user.producer.poll(0)

    # --- outcomes -----------------------------------------------------------------------------------

    def finals(self) -> dict[str, dict[bytes, Seen]]:
        """The final records by `ce_id`, by request id."""
        self.user.read()
        found: dict[str, dict[bytes, Seen]] = defaultdict(dict)
        for seen in self.user.seen:
            if seen.kind in FINAL:
                found[seen.body["request_id"]][seen.headers["ce_id"]] = seen
        return found

    def await_all(self, seconds: float) -> dict[str, dict[bytes, Seen]]:
        """Wait until each run has ended, and each retry was refused or its run has ended."""
        await_true(lambda: self.finals().keys() >= set(self.ids), seconds, self._what_is_missing)
        return self.finals()

    def _what_is_missing(self) -> str:
        return f"no end of {sorted(set(self.ids) - self.finals().keys())}\n{self.user.cluster.logs()}"


def paced(user: User, steps: int, pause: float, do: Callable[[int], None]) -> None:
    """Take `steps` steps, one every `pause` seconds, and read results meanwhile."""
    began = time.monotonic()
    for step in range(steps):
        await_true(partial(_reads_until, user, began + step * pause), 60, user.cluster.logs)
        do(step)


def _reads_until(user: User, due: float) -> bool:
    user.read()
    return time.monotonic() >= due
