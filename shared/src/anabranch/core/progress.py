"""How far a task and a run are, as a share from 0 to 1. Pure.

Every list, page, tree and status shows these two numbers, so they agree everywhere. Neither ever falls: each
task of a run counts alike, however many members it turns out to have, and a held member counts only once it was
dismissed or has completed, for a redrive runs it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

OPEN_SHARE = 0.99
"""The most that an open task or run shows: 100% would say that it has ended."""

_SETTLED = ("completed", "failed", "skipped")
_ENDED_RUNS = ("completed", "failed", "cancelled", "timed_out")


def task_share(status: str, members: int | None, ended: int) -> float:
    """How much of a task is done.

    Args:
        status: of the task. One that was cancelled stays as far as its members came.
        members: how many it has; None while they are not counted.
        ended: members that completed or failed, held ones left out.
    """
    if status in _SETTLED:
        return 1.0
    return min(OPEN_SHARE, ended / members) if members else 0.0


def run_share(status: str, shares: Iterable[float], tasks: int | None) -> float | None:
    """How much of a run is done; None where the number of its tasks is not known.

    Args:
        status: of the run.
        shares: of the tasks that something is known of.
        tasks: how many the request has.
    """
    if status == "completed":
        return 1.0
    if not tasks:
        return None
    share = math.floor(sum(shares) / tasks * 10_000 + 1e-6) / 10_000
    return min(1.0 if status in _ENDED_RUNS else OPEN_SHARE, share)


def share_of_task(task: Mapping[str, Any]) -> float:
    """How much of a task in a run's view is done."""
    ended = (task.get("completed") or 0) + (task.get("failed") or 0) - (task.get("held") or 0)
    return task_share(task["status"], task.get("members"), ended)


def share_of_run(view: Mapping[str, Any]) -> float | None:
    """How much of the run of a view is done; see `anabranch.runtime.views`."""
    tasks = [task for group in (view.get("groups") or {}).values() for task in group["tasks"].values()]
    status = view.get("status") or ""
    if status in _ENDED_RUNS and status != "completed" and not tasks:
        return None  # its view has expired: how far its tasks came is not known any more
    return run_share(status, map(share_of_task, tasks), view.get("tasks_total"))


def percent(share: float | None) -> str:
    """A share in words that says 0% and 100% only where it is so; nothing where it is not known."""
    if share is None:
        return ""
    exact = share * 100
    if 0 < exact < 1:
        return "<1%"
    return "99%" if 99 < exact < 100 else f"{math.floor(exact + 0.5)}%"
