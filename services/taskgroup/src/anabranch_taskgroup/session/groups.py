"""Closes a group once each of its steps has ended, reports it to the run's owner, and then the run itself.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from anabranch.core.wire.messages import GroupFinished, GroupResults, SkippedTask, Status
from anabranch_taskgroup.session.budgets import EXCEEDED
from anabranch_taskgroup.session.early_decisions import conclude
from anabranch_taskgroup.session.expiry import expire_keys
from anabranch_taskgroup.session.failures import all_failures, first_failures, handled_failures, write_pages
from anabranch_taskgroup.session.loop_bodies import counts_of
from anabranch_taskgroup.session.retry_import import imported_members
from anabranch_taskgroup.session.retry_snapshot import store_outcomes
from anabranch_taskgroup.session.spending import costs_of_group
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import WITHOUT_MEMBERS
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import Turn, Unwatch

MAX_RESULT_BYTES = 500_000
"""Bytes of results in one record."""
MAX_SKIPPED = 500
"""Skipped tasks in the report of a group at most."""


def close_group(turn: Turn, run: Run, group: Group) -> None:
    """Close a group and report it if all of its steps have ended; the last group closes the run."""
    if group.is_reported or group.unfinished or group.unsettled or not group.is_known:
        return
    group.is_reported = True
    if group.need is not None and group.decided is None and not (run.stopped or group.timed_out):
        conclude(group)
    run.timers.cancel(Timer(TimerKind.GROUP_TIMEOUT, group.name))
    status = group_status(group)
    turn.event(run, f"group.{status}", group=group.name)
    turn.ended.append((run, group, None))
    report_group(turn, run, group, status)
    run.finished_groups += 1
    if run.finished_groups == len(run.expected):
        _close_run(turn, run)
    elif run.phases:
        turn.ending.append(run)


def close_unused(turn: Turn, run: Run, group: Group) -> None:
    """Close and report the group of a phase that has nothing to do. It has no events."""
    group.is_reported = True
    run.groups[group.name] = group
    report_group(turn, run, group, "completed")
    run.finished_groups += 1
    if run.finished_groups == len(run.expected):
        _close_run(turn, run)


def group_status(group: Group) -> Status:
    """How a group ended: as one of its tasks has decided, else the gravest of its steps' endings."""
    status: Status = "failed" if group.conflicts else "completed"
    if group.decided is not None:
        return "failed" if group.conflicts else group.decided
    for task in group.tasks.values():
        if task.order.in_loop is not None:  # its loop ends as it does, or goes on
            continue
        if task.state is TaskState.CANCELLED:
            # Its waits were cancelled because a budget is exceeded, and that is why it fails.
            is_exceeded = any(each.error_type == EXCEEDED for each in group.conflicts)
            return "failed" if is_exceeded else "cancelled"
        if task.state is TaskState.TIMED_OUT:
            status = "timed_out"
        elif task.state is TaskState.FAILED and status == "completed" and not task.is_handled:
            status = "failed"
    # A phase that took too long does not make the run one that timed out.
    return "failed" if group.is_ending and status == "timed_out" else status


def report_group(turn: Turn, run: Run, group: Group, status: Status) -> None:
    """Publish the end of a group to the run's owner, which drops a report that it has received before. `status` is
    the group's."""
    runs = turn.config.names.runs
    # The end names the number of the records before it, so the run's owner notices if one of them is missing.
    *earlier, last = split_results(group.results)
    for part, results in enumerate(earlier):
        message = GroupResults(
            run_id=run.run_id, group=group.name, part=part, results=results, admission=run.admission
        )
        turn.publish(runs, run.run_id, message)
    failures = all_failures(group)
    first = first_failures(failures) if failures else ()
    finished = GroupFinished(
        run_id=run.run_id,
        group=group.name,
        status=status,
        results=last,
        parts=len(earlier),
        failures=first,
        failure_count=len(failures),
        failure_pages=write_pages(turn, run, group, failures) if len(first) < len(failures) else (),
        counts=counts_of(group),
        handled_failures=handled_failures(group),
        skipped=skipped_tasks(group),
        taken_over=imported_members(group),
        warnings=run.warnings,
        admission=run.admission,
        costs=costs_of_group(group),
    )
    turn.publish(runs, run.run_id, finished)


def split_results(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Splits results so that each part fits into a record; at least one part, and the last may be empty."""
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for key, value in results.items():
        length = len(orjson.dumps(value)) + len(orjson.dumps(key)) + 2
        if size + length > MAX_RESULT_BYTES and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += length
    return parts


def skipped_tasks(group: Group) -> tuple[SkippedTask, ...]:
    """The tasks of a group that were skipped, in the order of the request, as many as fit into its report."""
    found: list[SkippedTask] = []
    for task in group.tasks.values():
        if task.skip is not None and task.order.kind not in WITHOUT_MEMBERS and len(found) < MAX_SKIPPED:
            skip = task.skip
            found.append(SkippedTask(group=task.group, task=task.name, reason=skip.reason, because=skip.because))
    return tuple(found)


def _close_run(turn: Turn, run: Run) -> None:
    """All groups have ended: store what a retry can import, let the run's keys expire, and drop the run."""
    if any(group_status(group) != "completed" for group in run.groups.values()):
        store_outcomes(turn, run)
    expire_keys(turn, run)
    for key in run.watched:
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.partition.forget(run.run_id)
    # In memory and in the store: a late record that opens or stops the run must find it ended, at any later
    # owner.
    turn.partition.add_tombstone(run.run_id, "ended", run.admission, turn.at)
    turn.store_tombstone(run.run_id, "ended", run.opened_at_offset, run.admission)
