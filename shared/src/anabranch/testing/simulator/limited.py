"""Adds limits that runs share to the tasks of random requests; `limit_checks` checks that they hold.

For seeds from `LIMITS_FROM` on. Several runs share few keys, so nearly every member waits for others. The outcome
of each run is as without limits: a grant that is lost leaves its run open. In odd seeds, members have all of their
key wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.runtime.process.settings import Settings

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
            # Members that ask for a delay use up attempts, so only those that have all they want do.
            if int(seed) % 2 and random.random() < 0.4 and "retry" not in task and "agent" in task:
                task["inputs"]["later"] = sorted({0, random.randrange(8)})
