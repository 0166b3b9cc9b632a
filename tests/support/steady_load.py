"""A number of runs at a steady pace, while a test injects faults into services or servers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from cluster import Cluster, User, await_true
from soak import NOTHING_WRONG, Traffic, calls_of, verdict


class Load:
    """`runs` requests with a fan-out of `members` and a second one over its list; one every `pause` seconds.

    Requests are sent and records read only while a test waits for the load (`until`, `go_on`, `finish`).
    """

    def __init__(self, cluster: Cluster, seed: int, *, runs: int, members: int, pause: float) -> None:
        self.cluster = cluster
        self.runs = runs
        self.members = members
        self.user = User(cluster, ("results",))
        self.traffic = Traffic(self.user, random.Random(seed), pause, (members, members))

    def until(self, condition: Callable[[], bool], seconds: float = 240.0) -> None:
        """Continue until a condition holds."""

        def holds() -> bool:
            self.traffic.step(ask=len(self.traffic.asked) < self.runs)
            return condition()

        await_true(holds, seconds, self.cluster.logs)

    def until_ended(self, runs: int) -> None:
        """Continue until this number of runs have ended."""
        self.until(lambda: len(self.traffic.asked) - self.traffic.open >= runs)

    def go_on(self, seconds: float) -> None:
        """Continue for a time, for example while a server is down."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 60)

    @property
    def is_under_way(self) -> bool:
        """True while runs are open or not yet sent."""
        return self.traffic.open > 0 or len(self.traffic.asked) < self.runs

    def finish(self) -> None:
        """Continue until every run has ended; each has to have completed, once, with all of its members."""
        self.until(lambda: not self.is_under_way)
        self.go_on(2)  # a second publication follows soon after the first
        assert verdict(self.traffic.asked) == NOTHING_WRONG, self.cluster.logs()
        print(f"{len(self.traffic.asked)} runs, {self.calls} calls, {len(self.repeated)} members called again")

    @property
    def calls(self) -> int:
        return calls_of(self.cluster).total()

    @property
    def repeated(self) -> dict[str, int]:
        """Members that were called more than once."""
        return {call: times for call, times in calls_of(self.cluster).items() if times > 1}

    def close(self) -> None:
        self.user.close()
