"""Trace spans of groups and tasks that ended, made from the owner's state. Pure.

Times are those of the records that began and ended them, so an owner that reads the log again makes the same
spans.
"""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core import telemetry as names
from anabranch.core.tracing import (
    LINKS,
    Attribute,
    RunTrace,
    Span,
    every,
    group_span,
    member_span,
    run_span,
    task_span,
)
from anabranch_taskgroup.session.groups import group_status
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.suspects import ERROR_TYPE as LOST
from anabranch_taskgroup.session.task_state import Task


def span_of_group(run: Run, group: Group, trace: RunTrace, at: float) -> Span:
    """The span of a group that ended at `at`."""
    status = group_status(group)
    return Span(
        name=f"group {group.name}",
        trace_id=trace.trace_id,
        span_id=group_span(run.run_id, group.name),
        parent=run_span(run.run_id),
        start=group.opened_at,
        end=at,
        attributes={
            names.RUN_ID: run.run_id,
            names.SESSION_ID: run.session_id,
            names.GROUP: group.name,
            names.STATUS: status,
        },
        error=f"the group {status}" if status in ("failed", "timed_out") else None,
    )


def span_of_task(run: Run, task: Task, trace: RunTrace, at: float) -> Span:
    """The span of a task that ended at `at`. The span of a task that never began has no duration."""
    is_expanded = task.order.expansion is not None
    sampled = every(task.total)
    attributes: dict[str, Attribute] = {
        names.RUN_ID: run.run_id,
        names.SESSION_ID: run.session_id,
        names.GROUP: task.group,
        names.TASK: task.name,
        names.AGENT: task.order.agent,
        names.STATUS: task.state.lower(),
        names.MEMBERS: task.total,
        names.COMPLETED: len(task.completed),
        names.FAILED: sum(index >= 0 for index in task.failed),
    }
    if is_expanded:
        attributes[names.SAMPLED_EVERY] = sampled
    first = next(iter(task.failed.values()), None)
    error = _error_of(task)
    if error is not None and first is not None:
        attributes[names.ERROR_TYPE] = first.error_type
    members = list(_members(run, task, sampled))
    return Span(
        name=f"task {task.name}",
        trace_id=trace.trace_id,
        span_id=task_span(run.run_id, task.group, task.name, task.iteration),
        parent=group_span(run.run_id, task.group),
        start=at if task.began_at is None else task.began_at,
        end=at,
        attributes=attributes,
        # LINKS is the maximum of a span: members take precedence over producers.
        links=(*_producers(run, task)[: LINKS - len(members)], *members),
        error=error,
    )


def _error_of(task: Task) -> str | None:
    if task.state is TaskState.TIMED_OUT:
        return "timed out"
    if task.state is not TaskState.FAILED:
        return None
    first = next(iter(task.failed.values()), None)
    if first is None:
        return "failed"
    if len(task.failed) > 1:
        return (
            f"{len(task.failed)} of {task.total} members failed, the first of {first.error_type}: {first.message}"
        )
    return f"{first.error_type}: {first.message}"


def _producers(run: Run, task: Task) -> list[int]:
    """The spans of the tasks of this run whose results the task used, each of them once."""
    found = (run.producers.get(need.key) for need in task.order.needs if need.kind == "produced")
    used = {
        task_span(run.run_id, each.group, each.name, each.iteration): None for each in found if each is not None
    }
    return list(used)


def _members(run: Run, task: Task, sampled: int) -> Iterator[int]:
    """The spans in which sampled members ended in this run; imported members are left out."""
    for index in range(0, task.total, sampled):
        failure = task.failed.get(index)
        if index not in task.started or (failure is None and index not in task.completed):
            continue
        attempt = task.later_attempts.get(index, 1) if failure is None else failure.attempts
        # A worker that died with its member has not exported the span of the attempt.
        if attempt and (failure is None or failure.error_type != LOST):
            yield member_span(run.run_id, task.group, task.name, index, attempt, task.iteration)
