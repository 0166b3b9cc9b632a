"""The view of a schedule in the store: what its owner shows to clients. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from anabranch.core.schedules.models import Schedule
from anabranch.core.schedules.reading import rule_of
from anabranch.core.timestamps import utc_text

VIEW_SECONDS = 400 * 86_400.0
"""Seconds for which a view is kept after the last change of the schedule, or after its next firing."""
LIST_SECONDS = 100 * 365 * 86_400.0
"""Seconds for which the list of all schedules is kept: longer than any of them waits for its next firing."""
MAX_LISTED = 100_000


def shown(view: Mapping[str, Any], now: float, count: int = 10) -> dict[str, Any]:
    """A view with its next firings, as people and clients see it. Times are RFC 3339 in UTC.

    Args:
        now: seconds since the epoch.
        count: how many next firings.
    """
    schedule = Schedule.model_validate(view["schedule"])
    upcoming: list[str] = []
    if view["next_at"] is not None:
        left = count if schedule.limit is None else min(count, max(0, schedule.limit - view["fired"]))
        after = max(now, view["next_at"] - 0.001)
        upcoming = [utc_text(at) for at in islice(rule_of(schedule).upcoming(after), left)]
    return {
        "id": view["id"],
        "project": view["project"],
        "schedule": view["schedule"],
        "paused": view["paused"],
        "paused_by": view.get("paused_by"),
        "fired": view["fired"],
        "missed": view["missed"],
        "next": upcoming,
        "running": [_firing(each) for each in view["running"]],
        "waiting": [_firing(each) for each in view["waiting"]],
        "history": [_firing(each) for each in view["history"]],
    }


def _firing(firing: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in firing.items() if value is not None}
    return found | {name: utc_text(found[name]) for name in ("at", "ended_at") if name in found}
