"""Adds limits that runs share to the tasks of random requests, and checks that they hold.

For seeds from `LIMITS_FROM` on. Several runs share few keys, so nearly every member waits for others. The outcome
of each run is as without limits: a grant that is lost leaves its run open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.limit_addresses import PREFIX
from anabranch.core.names import Names
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import Snapshot
from anabranch.ports import Incoming
from anabranch.runtime.process.settings import Settings
from anabranch_agency.run.actor import decide
from anabranch_agency.run.limit_state import LimitAddress
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

LIMITS_FROM, LIMITS_UNTIL = 9_400_000, 9_500_000
CONFIGURED_FROM = LIMITS_FROM + 31
"""From this seed on, limits are configured besides."""
CONFIGURED = ConfiguredLimits.model_validate(
    {
        "agents": {
            "work": {
                "concurrency": {"limit": 3},
                "rate_limit": {"limit": 20, "burst": 5},
                "breaker": {"failures": 3, "window": 10, "cooldown": 2},
            }
        },
        "projects": {DEFAULT_PROJECT: {"concurrency": {"limit": 2}}},
    }
)

SettingsOf = Callable[[str, int], Settings]


def has_limits(seed: str) -> bool:
    """True if tasks of a seed share limits."""
    return seed.isdigit() and LIMITS_FROM <= int(seed) < LIMITS_UNTIL


def configuring(seed: str, settings_of: SettingsOf) -> SettingsOf:
    """The settings of processes: in a seed with configured limits, most have them, and some have not yet."""
    if not has_limits(seed) or int(seed) < CONFIGURED_FROM:
        return settings_of

    def settings(process: str, incarnation: int) -> Settings:
        random = Random(f"configured {seed} {process} {incarnation}")
        return replace(settings_of(process, incarnation), limits=CONFIGURED if random.random() < 0.8 else None)

    return settings


def add_limits(seed: str, number: int, expected: Expected) -> None:
    """Give most tasks of a request a limit that other requests share."""
    random = Random(f"limits {seed} {number}")
    if random.random() < 0.4:
        expected.request["concurrency"] = {"key": "runs", "limit": 1}
    for group in expected.request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < 0.6:
                key = random.choice(("a", "b", "{session_id}"))
                # One key has one limit, so that the check of it is simple.
                task["concurrency"] = {"key": key, "limit": {"a": 1, "b": 3}.get(key, 2)}
            if random.random() < 0.4:
                key = random.choice(("slow", "fast"))
                rate = {"slow": {"limit": 4, "per": 1.0, "burst": 2}, "fast": {"limit": 50, "per": 1.0}}[key]
                task["rate_limit"] = {"key": key, **rate}


class LimitCheck:
    """Folds the records about limits apart from the services, and checks after each that no limit is exceeded."""

    def __init__(self, names: Names, report: Callable[[str], None]) -> None:
        self._names, self._report = names, report
        self._config = DecisionConfig(names)
        self._states: dict[int, PartitionState] = {}
        self._granted: dict[str, list[tuple[float, int]]] = {}
        self._known: dict[str, dict[Any, int]] = {}

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        if record.topic != self._names.runs or not (record.key or b"").startswith(PREFIX.encode()):
            return
        state = self._states.setdefault(record.partition, PartitionState(record.partition))
        message = RUNS.decode(record.value).message
        if isinstance(message, Snapshot):
            return
        decide(self._config, state, message, record.offset, record.timestamp)
        limit = state.limits.get((record.key or b"").decode())
        for problem in self._problems(limit, record.timestamp) if limit is not None else ():
            self._report(problem)

    def _problems(self, limit: LimitAddress, now: float) -> Iterator[str]:
        rule, held = limit.rule, sum(each.amount for each in limit.holders.values())
        if held != limit.held:
            yield f"the limit {rule.name!r} counts {limit.held} members, and {held} hold it"
        if rule.kind not in ("rate", "breaker") and held > rule.limit:
            yield f"the key {rule.name!r} is held by {held} members, {rule.limit} are allowed"
        if rule.kind == "rate":
            yield from self._rate_problems(limit.run_id, limit, now)

    def _rate_problems(self, address: str, limit: LimitAddress, now: float) -> Iterator[str]:
        """More members were granted in a time than the burst, and what the time adds."""
        known, rule = self._known.setdefault(address, {}), limit.rule
        present = {place: wish.granted for place, wish in limit.wishes.items()} | dict(limit.ended)
        new = sum(granted - known.get(place, 0) for place, granted in present.items())
        self._known[address] = known | present
        if new > 0:
            granted = self._granted.setdefault(address, [])
            granted.append((now, new))
            total = 0
            for at, count in reversed(granted):
                total += count
                most = limit.capacity + max(0.0, now - at) * rule.limit / rule.per
                if total > most + 1e-6:
                    yield f"the rate {rule.name!r} had {total} members in {now - at:g} s, {most:g} are allowed"
                    return
