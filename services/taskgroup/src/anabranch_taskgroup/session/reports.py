"""What a worker's report changes: members start, log, retry, complete or fail. Pure.

A report counts if it is of the present delivery of its chunk and names no member that has ended. So a repetition,
or a report of a worker that was declared dead, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from anabranch.core.ranges import Ranges
from anabranch.core.retry import counted
from anabranch.core.tracing import every
from anabranch.core.wire.messages import MemberRetry, MembersReported, Spans
from anabranch.core.wire.usage import Used, usage_fields
from anabranch_taskgroup.session.attempt_order import by_attempt, in_order
from anabranch_taskgroup.session.cache import note_completed
from anabranch_taskgroup.session.chunks import reoffer_at
from anabranch_taskgroup.session.dead_letters import fail_member
from anabranch_taskgroup.session.limits import hold_key, note_outcomes
from anabranch_taskgroup.session.merge import add_results
from anabranch_taskgroup.session.missing_agents import note_agent_found
from anabranch_taskgroup.session.spending import by_spending, note_repeated, note_spent, shown
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.work import note_handles

Measured = Mapping[tuple[int, int], Used]
"""By index and attempt: what the attempts used that ended with a report."""
_NOTHING: Measured = {}


class ReportStatus(Enum):
    """How a report relates to what is known of its chunk."""

    NEW = "new"
    """Of the present delivery, and each member that it ends had not ended."""
    CONTESTED = "contested"
    """Two workers run the chunk, which happens when the store lost the claim. The report ends some members for the
    first time and others again, or it is a worker's last although the other worker has reported all of its
    members: later reports of the two may overlap, or leave members out."""
    STALE = "stale"
    """A repetition, or of an earlier delivery."""


class ClassifiedReport(NamedTuple):
    """A report's status, and its chunk; None where the report is stale."""

    status: ReportStatus
    chunk: Chunk | None = None


def classify(task: Task, report: MembersReported) -> ClassifiedReport:
    """Classify a report by the state of its chunk."""
    chunk = task.chunks.get(report.chunk)
    if chunk is None or chunk.fence != report.fence or task.state is not TaskState.RUNNING:
        return ClassifiedReport(ReportStatus.STALE)
    # Nearly every report: each of its members completed, and none of them had ended.
    if not report.failed and not report.retried and chunk.pending.covers(report.completed):
        return ClassifiedReport(ReportStatus.NEW, chunk)
    ended = _ended(report)
    known = len(ended.difference(chunk.pending))
    if not known:
        return ClassifiedReport(ReportStatus.NEW, chunk)
    if report.last or known < len(ended):
        return ClassifiedReport(ReportStatus.CONTESTED, chunk)
    return ClassifiedReport(ReportStatus.STALE)


def _ended(report: MembersReported) -> Ranges:
    """The members that a report takes out of the chunk: completed, failed, or to be retried by the owner later."""
    ended = Ranges(report.completed)
    for failure in report.failed:
        ended.add(failure.index)
    for retry in report.retried:
        if retry.delay is not None:
            ended.add(retry.index)
    return ended


def apply_report(
    turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported, segments: tuple[bytes, ...]
) -> None:
    """Apply a new report: note starts and failed attempts, remove members that ended, keep their results."""
    if report.spent:
        note_spent(task, chunk, report)
    if report.micros > chunk.micros:
        task.micros += report.micros - chunk.micros
        chunk.micros = report.micros
    if report.started:
        _note_started(turn, run, task, chunk, report)
    if report.handles:
        note_handles(task, chunk, report)
    if report.logs:
        _note_logs(turn, run, task, report)
    if report.progress:
        _note_progress(turn, run, task, report)
    measured = _measured(report) if report.usage else _NOTHING
    if report.retried or report.restarted:
        _note_retries(turn, run, task, chunk, report, measured)
    if report.completed:
        _note_completed(turn, run, task, chunk, report, segments, measured)
    for failure in report.failed:
        span = ((failure.index, failure.index + 1),)
        used = _usage(task, measured, failure.attempts, span) if measured else {}
        fail_member(turn, run, task, chunk, failure, **used)
    if run.breakers and task.limits is not None:
        passed = sum(stop - start for start, stop in report.completed)
        note_outcomes(task, chunk, passed, len(report.failed) + len(report.retried))
    if report.last or not chunk.pending:
        _close_chunk(task, chunk, report)


def _note_started(turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported) -> None:
    if task.agent_missing_since is not None or task.room_missing_since is not None:
        note_agent_found(run, task)
    # Nearly every chunk has members that never ran.
    if chunk.fence != task.first_fence or chunk.attempts or chunk.mode != "fast" or task.redrives:
        note_repeated(task, chunk, report.started)
    task.lacks_workers_since = None
    task.started |= report.started
    chunk.begun |= report.started
    task.waiting.discard(chunk.number)
    chosen: dict[str, Any] = {} if report.agent is None else {"agent": report.agent}
    for attempt, spans in by_attempt(report.started, chunk.attempts):
        turn.event(
            run,
            "task.started",
            task=task,
            spans=spans,
            attempt=attempt,
            # The worker's clock may be ahead of the broker's: no start may follow the report of it.
            time=turn.at if report.started_at is None else min(report.started_at, turn.at),
            worker=report.worker,
            **chosen,
        )


def _note_logs(turn: Turn, run: Run, task: Task, report: MembersReported) -> None:
    for line in report.logs:
        turn.event(
            run,
            "task.log",
            task=task,
            spans=((line.index, line.index + 1),),
            attempt=line.attempt,
            time=line.at,
            level=line.level,
            message=line.message,
            fields=line.fields,
        )


def _note_progress(turn: Turn, run: Run, task: Task, report: MembersReported) -> None:
    for index, fraction, note in report.progress:
        turn.event(run, "task.progress", task=task, spans=((index, index + 1),), fraction=fraction, note=note)


def _note_retries(
    turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported, measured: Measured
) -> None:
    for change in in_order(report.retried, report.restarted):
        if isinstance(change, MemberRetry):
            _note_retry(turn, run, task, chunk, measured, change)
        else:
            index, attempt, at = change
            chosen: dict[str, Any] = {} if report.agent is None else {"agent": report.agent}
            turn.event(
                run,
                "task.started",
                task=task,
                spans=((index, index + 1),),
                attempt=attempt,
                time=at,
                worker=report.worker,
                **chosen,
            )


def _note_retry(turn: Turn, run: Run, task: Task, chunk: Chunk, measured: Measured, retry: MemberRetry) -> None:
    # A report that is read again must not count an attempt twice.
    if retry.attempt > chunk.attempts.get(retry.index, 0):
        if retry.retrier is not None:
            made = task.retrier_attempts.get(retry.index, ())
            task.retrier_attempts[retry.index] = counted(made, retry.retrier, len(task.order.retriers))
        if retry.delay is None:  # the worker has made the next attempt
            task.repeated += 1
    chunk.attempts[retry.index] = retry.attempt
    if task.handles:
        task.forget_handles(((retry.index, retry.index + 1),))
    is_admitted = task.admit_retry_traceback(retry.traceback)
    data: dict[str, Any] = shown(task, chunk, retry.index, retry.attempt) if chunk.spent else {}
    if measured:
        data |= _usage(task, measured, retry.attempt, ((retry.index, retry.index + 1),))
    if is_admitted:
        data["traceback"] = retry.traceback
    turn.event(
        run,
        "task.retrying",
        task=task,
        spans=((retry.index, retry.index + 1),),
        attempt=retry.attempt,
        error_type=retry.error_type,
        message=retry.message,
        delay=retry.delay or 0.0,
        **data,
    )
    if retry.delay is not None:
        if retry.holds_key and task.limits is not None:
            hold_key(turn, run, task, retry.index, turn.at + retry.delay)
        chunk.remove_member(retry.index)
        due = turn.at + retry.delay
        task.schedule_retry(due, retry.index, retry.attempt)
        reoffer_at(run, task, due)


def _note_completed(
    turn: Turn,
    run: Run,
    task: Task,
    chunk: Chunk,
    report: MembersReported,
    segments: tuple[bytes, ...],
    measured: Measured,
) -> None:
    chunk.pending = chunk.pending.without(report.completed)
    task.clear_suspects(report.completed)
    if task.handles:
        task.forget_handles(report.completed)
    if task.retrier_attempts:
        task.forget_retries(report.completed)
    for start, stop in report.completed:
        task.ended += stop - start
    add_results(task, report, segments, report.chunk, report.fence)
    for attempt, spans in by_attempt(report.completed, chunk.attempts):
        if chunk.spent or measured:
            for members, used in by_spending(task, chunk, attempt, spans):
                used |= _usage(task, measured, attempt, members) if measured else {}
                turn.event(run, "task.completed", task=task, spans=members, attempt=attempt, **used)
        else:
            turn.event(run, "task.completed", task=task, spans=spans, attempt=attempt)
        # Spans with a later attempt than the first have a single member, see `by_attempt`.
        if attempt > 1 and spans[0][0] % every(task.total) == 0:
            task.later_attempts[spans[0][0]] = attempt
    # After these events: those of the members that take the values over follow.
    if task.cache_keys:
        note_completed(turn, run, task, report, segments)


def _measured(report: MembersReported) -> Measured:
    return {(index, attempt): (micros, memory) for index, attempt, micros, memory in report.usage}


def _usage(task: Task, measured: Measured, attempt: int, spans: Spans) -> dict[str, Any]:
    """What attempts used that ended with a report, as fields of their event."""
    return usage_fields(spans if task.order.expansion is not None else None, attempt, measured)


def _close_chunk(task: Task, chunk: Chunk, report: MembersReported) -> None:
    task.remove_offered(chunk)
    if chunk.pending:
        # A paused worker ends its chunk with members left, which are offered again.
        chunk.renew()
        task.requeued.append(chunk)
    # Careful and lone members wait for acknowledgements of their starts: their time measures the log, not the
    # agent.
    if chunk.size and report.busy > 0 and chunk.mode == "fast":
        measured = report.busy / chunk.size
        known = task.member_seconds
        task.member_seconds = measured if known is None else (known + measured) / 2
