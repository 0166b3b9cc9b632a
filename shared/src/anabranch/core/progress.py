"""Completed share of a task and of a run, from 0 to 1. Pure.

Every list, page, tree and status shows these two numbers, so they agree. That of a run never falls: all tasks of a
run have equal weight, whatever their number of members or iterations, and a held member counts only after it is
dismissed or has completed, because a redrive runs it again. The share of a task falls only with the next iteration
of its loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from anabranch.core.wire.run_view import GroupView, RunView, TaskView

OPEN_SHARE = 0.99
"""Maximum share of an open task or run: 100% means that it has ended."""

_SETTLED = ("completed", "failed", "skipped")
_ENDED_RUNS = ("completed", "failed", "cancelled", "timed_out")


def task_share(status: str, members: int | None, ended: int) -> float:
    """Completed share of a task.

    Args:
        status: of the task. A cancelled task keeps the share of its members.
        members: number of members; None while it is not known.
        ended: members that completed or failed, without held ones.
    """
    if status in _SETTLED:
        return 1.0
    return min(OPEN_SHARE, ended / members) if members else 0.0


def run_share(status: str, shares: Iterable[float], tasks: int | None) -> float | None:
    """Completed share of a run; None if the number of its tasks is not known.

    Args:
        status: of the run.
        shares: of the tasks with at least one event.
        tasks: number of tasks in the request.
    """
    if status == "completed":
        return 1.0
    if not tasks:
        return None
    # Rounded down. A sum of floats may be just below the exact number, for which 1e-6 makes up.
    share = math.floor(sum(shares) / tasks * 10_000 + 1e-6) / 10_000
    return min(1.0 if status in _ENDED_RUNS else OPEN_SHARE, share)


def share_of_task(task: TaskView) -> float:
    """Completed share of a task in a run's view."""
    return task_share(task.status, task.members, task.ended - task.held)


def share_in_run(task: TaskView, tasks: Mapping[str, TaskView]) -> float:
    """What a task counts in the share of its run.

    A task in a loop counts once the outermost loop around it has ended: its own share falls with each iteration.

    Args:
        tasks: all tasks of its group, by name.
    """
    if task.iteration is None:
        return share_of_task(task)
    outermost: TaskView | None = task
    for _ in task.iteration:
        outermost = None if outermost is None else tasks.get(outermost.in_loop or "")
    return 1.0 if outermost is not None and outermost.status in _SETTLED else 0.0


def known_run_share(status: str, shares: Sequence[float], tasks: int | None) -> float | None:
    """As `run_share`, but None for a run that failed and has no shares."""
    if status in _ENDED_RUNS and status != "completed" and not shares:
        return None  # its view has expired, and with it the shares of its tasks
    return run_share(status, shares, tasks)


def share_of_run(view: RunView) -> float | None:
    """Completed share of the run of a view."""
    return known_run_share(view.status, shares_in_run(view.groups), view.tasks_total)


def shares_in_run(groups: Mapping[str, GroupView]) -> list[float]:
    """What each task counts in the share of its run."""
    return [
        share_of_task(task) if task.iteration is None else share_in_run(task, group.tasks)
        for group in groups.values()
        for task in group.tasks.values()
    ]


def percent(share: float | None) -> str:
    """A share as a percentage, rounded so that 0% and 100% are exact; empty if it is not known."""
    if share is None:
        return ""
    exact = share * 100
    if 0 < exact < 1:
        return "<1%"
    return "99%" if 99 < exact < 100 else f"{math.floor(exact + 0.5)}%"
