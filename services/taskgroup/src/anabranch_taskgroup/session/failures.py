"""The failures of a group: the first of them for its report, and all of them as pages where they do not fit.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch.core.failures import fit_failures
from anabranch.core.json_documents import dumps
from anabranch.core.names import failures_key
from anabranch.core.wire.messages import Failure, Json
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

MAX_FAILURES = 1_000
MAX_FAILURE_BYTES = 250_000
"""Largest number and size of the failures in a group's report."""
PAGE_FAILURES = 500
MAX_ERRORS, MAX_ERROR_BYTES = 100, 50_000
"""Largest number and size of the failures in the value of an `error_key`."""


def all_failures(group: Group) -> list[Failure]:
    """Every failure of a group: those of its keys, then those of each task in the order of members."""
    found = list(group.conflicts)
    for task in group.tasks.values():
        if task.failed and not task.is_handled and not _is_explained(group, task):
            found += [task.failed[index] for index in sorted(task.failed)]
        if task.state is TaskState.TIMED_OUT and group.timed_out:
            found.append(task_failure(task, "GroupTimeout", f"group {group.name!r} reached its timeout"))
    return found


def _is_explained(group: Group, task: Task) -> bool:
    """True for a loop that failed with a task of its body, and for a task of a loop that goes on after a
    failure."""
    if task.loop is not None and task.loop.is_broken:
        return True
    while task.order.in_loop is not None:
        task = group.tasks[task.order.in_loop]
        if task.state is TaskState.COMPLETED or task.is_handled or _goes_on(task):
            return True
    return False


def _goes_on(loop: Task) -> bool:
    """True for a loop that goes on after the failure of an iteration, also if it fails later for a reason of its
    own. One that a budget stopped fails with its body."""
    spec = loop.order.loop
    return spec is not None and spec.on_failure == "continue" and (loop.loop is None or not loop.loop.is_broken)


def handled_failures(group: Group) -> int:
    """The number of failures of a group that are the value of an `error_key`, and no failures of the group."""
    found = 0
    for task in group.tasks.values():
        if task.order.error_key is not None and task.is_handled:
            found += len(task.failed)
    return found


def error_value(task: Task) -> dict[str, Json]:
    """Why a task failed: the value of its `error_key`. `failures` are its first ones, and the rest is of the first
    of them."""
    failures = [task.failed[index] for index in sorted(task.failed)]
    first = failures[0]
    message = first.message
    if len(failures) > 1:
        message = f"{len(failures)} of {task.total} members failed, the first of {first.error_type}: {message}"
    traceback = next((each.traceback for each in failures if each.traceback is not None), None)
    bare = [each.model_copy(update={"traceback": None}) for each in failures[:MAX_ERRORS]]
    return {
        "error_type": first.error_type,
        "message": message,
        "attempts": max(each.attempts for each in failures),
        "failures": [each.to_document() for each in fit_failures(bare, MAX_ERROR_BYTES)],
        "traceback": traceback,
    }


def task_failure(task: Task, error_type: str, message: str) -> Failure:
    """A failure of a task as a whole."""
    return Failure(
        group=task.group, task=task.name, error_type=error_type, message=message, iteration=task.iteration or None
    )


def first_failures(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """The first failures, as many as fit into a report."""
    return fit_failures(failures, MAX_FAILURE_BYTES, MAX_FAILURES)


def write_pages(
    turn: Turn, run: Run, group: Group, failures: Sequence[Failure]
) -> tuple[tuple[str, int, int], ...]:
    """Store all failures of a group; returns (page, number of failures, bytes) of each page."""
    pages: list[tuple[str, int, int]] = []
    for first in range(0, len(failures), PAGE_FAILURES):
        part: list[Any] = [each.to_document() for each in failures[first : first + PAGE_FAILURES]]
        name, data = f"{group.name}.{len(pages)}", dumps(part)
        turn.put(
            run, turn.config.names.value_page(run.session_id, run.run_id, failures_key(run.run_id), name), data
        )
        pages.append((name, len(part), len(data)))
    return tuple(pages)
