"""Fan-outs whose members count their effects in Valkey, and the counts."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from checks.release import CheckFailedError, Release, expect

KEY = "numbers"


@dataclass(frozen=True)
class Counts:
    """How often members began and ended, by the counts of the agents."""

    members: int
    began: int
    ended: int
    repeated: int
    """Members that ended more than once."""
    interrupted: int
    """Beginnings without an end."""


class Workload:
    """One run of `members` members of an agent that counts, each of which takes `seconds`."""

    def __init__(
        self, release: Release, mark: str, members: int, seconds: float = 0.0, agent: str = "count_effect"
    ) -> None:
        self._release = release
        self._store = redis.Redis.from_url(release.effects_url, decode_responses=True)
        # A request id that was used before would not start another run.
        mark = f"{mark}-{time.time_ns()}"
        self.mark = mark
        self.members = members
        self.run_id = release.submit(fan_out(mark, members, seconds, agent))

    def began(self) -> int:
        """How many members have begun at least once."""
        return int(self._store.hlen(f"began:{self.mark}"))

    def ended(self) -> int:
        """How many members have ended at least once."""
        return int(self._store.hlen(f"ended:{self.mark}"))

    def await_result(self, seconds: float = 300) -> Counts:
        """Wait for the run, and compare its result with the members: each is in it exactly once."""
        self._release.completed(self.run_id, seconds)
        numbers = self._release.values_of(self.run_id, KEY)
        expected = Counter(range(1, self.members + 1))
        found = Counter(numbers)
        if found != expected:
            missing, twice = expected - found, found - expected
            raise CheckFailedError(f"{self.run_id}: missing {list(missing)[:20]}, too often {list(twice)[:20]}")
        return self.counts()

    def counts(self) -> Counts:
        began, ended = self._counted("began"), self._counted("ended")
        expect(set(ended) == set(range(1, self.members + 1)), f"{self.run_id}: only {len(ended)} members ended")
        return Counts(
            members=self.members,
            began=began.total(),
            ended=ended.total(),
            repeated=sum(1 for times in ended.values() if times > 1),
            interrupted=began.total() - ended.total(),
        )

    def _counted(self, what: str) -> Counter[int]:
        found: Any = self._store.hgetall(f"{what}:{self.mark}")
        return Counter({int(member): int(times) for member, times in found.items()})


def fan_out(mark: str, members: int, seconds: float, agent: str = "count_effect") -> dict[str, Any]:
    """A request with one expanded task."""
    sequence = {"n": {"start": 1, "end": members, "step": 1}}
    task = {
        "name": "count",
        "agent": agent,
        "inputs": {"mark": mark, "member": "{n}", "seconds": seconds},
        "result_keys": [KEY],
        "expansion_config": {
            "type": "custom",
            "transform_rules": {"sequence": sequence},
            "output_format": "merge",
        },
    }
    return {"request_id": mark, "task_groups": [{"name": "fan-out", "tasks": [task]}]}
