"""Fails or holds a member that is not retried any more, and writes its dead letter. Pure.

A worker's report or `suspects` decides that there is no further attempt. A failure that becomes the value of an
`error_key` has no dead letter: the request says what is done about it, so nobody has to decide.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.expansion.members import member_name
from anabranch.core.json_documents import dumps
from anabranch.core.wire import dead_letters
from anabranch.core.wire.messages import Failure, MemberFailed
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.dead_letter import REASON_BYTES
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.cache import note_not_completed
from anabranch_taskgroup.session.spending import shown
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Chunk, Held, Task
from anabranch_taskgroup.session.traceback_limits import traceback_size
from anabranch_taskgroup.session.turn import Turn

MAX_DEAD_LETTERS = 1_000
"""Dead letters of one task at most. One more, written when the task ends, has the number of further members."""


def fail_member(turn: Turn, run: Run, task: Task, chunk: Chunk, failed: MemberFailed, **data: Any) -> None:
    """A member has failed for good: count it as ended, or hold it if its task has `on_failure: hold`. `data` are
    further fields of its event."""
    index = failed.index
    chunk.remove_member(index)
    if task.cache_keys:
        note_not_completed(turn, run, task, index)
    # `clear_suspects` below forgets the deaths that the dead letter names.
    held = Held(failure_of(task, failed, admit_traceback(run, task, failed.traceback)), task.deaths.get(index, 0))
    task.clear_suspects(((index, index + 1),))
    task.handles.pop(index, None)
    task.retrier_attempts.pop(index, None)
    used = data | (shown(task, chunk, index, failed.attempts) if chunk.spent else {})
    if task.order.on_failure == "hold":
        task.held[index] = held
        emit_failure(turn, run, task, index, held.failure, held=True, **used)
    else:
        count_failed(task, index, held.failure)
        emit_failure(turn, run, task, index, held.failure, **used)
    _write_dead_letter(turn, run, task, index, held)


def fail_without_attempt(turn: Turn, run: Run, task: Task, failed: MemberFailed, **data: Any) -> None:
    """A member that no worker runs has failed, as a wait that timed out; `data` are further fields of its event.
    It is not held: there is nothing to run again."""
    held = Held(failure_of(task, failed, None), 0)
    if task.cache_keys:
        note_not_completed(turn, run, task, failed.index)
    count_failed(task, failed.index, held.failure)
    emit_failure(turn, run, task, failed.index, held.failure, **data)
    _write_dead_letter(turn, run, task, failed.index, held)


def count_failed(task: Task, index: int, failure: Failure) -> None:
    """Count a member as failed and ended: the join does not wait for it any more."""
    task.failed[index] = failure
    task.ended += 1


def count_held(task: Task) -> None:
    """Count held members as failed: their task ends, so no command can release them any more."""
    for index, held in task.held.items():
        count_failed(task, index, held.failure)
    task.held.clear()


def emit_failure(turn: Turn, run: Run, task: Task, index: int, failure: Failure, **data: Any) -> None:
    """Emit the event of a failed member; `data` are further fields of it."""
    if failure.traceback is not None:
        data["traceback"] = failure.traceback
    turn.event(
        run,
        "task.failed",
        task=task,
        spans=((index, index + 1),),
        attempt=failure.attempts,
        error_type=failure.error_type,
        message=failure.message,
        **data,
    )


def admit_traceback(run: Run, task: Task, traceback: str | None) -> str | None:
    """The traceback if the budgets of task and run allow it, which it uses up; else None."""
    if traceback is None or not task.admit_traceback(traceback, run.traceback_bytes_left):
        return None
    run.traceback_bytes_left -= traceback_size(traceback)
    return traceback


def release_traceback(run: Run, task: Task, traceback: str | None) -> None:
    """Return the traceback of a held member that runs again to the budgets."""
    if traceback is not None:
        task.release_traceback(traceback)
        run.traceback_bytes_left += traceback_size(traceback)


def failure_of(task: Task, failed: MemberFailed, traceback: str | None) -> Failure:
    """The failure in the form that the run's report has."""
    expanded = task.order.expansion is not None
    return Failure(
        iteration=task.iteration or None,
        group=task.group,
        task=task.name,
        index=failed.index if expanded else None,
        member=member_name(task.name, failed.index) if expanded else task.name,
        error_type=failed.error_type,
        message=failed.message,
        attempts=failed.attempts,
        traceback=traceback,
    )


# --- dead letters --------------------------------------------------------------------------------


def _write_dead_letter(turn: Turn, run: Run, task: Task, index: int, held: Held) -> None:
    if index not in task.held and _will_be_handled(task):
        return
    if task.dead_letters >= MAX_DEAD_LETTERS:
        task.omitted_dead_letters += 1
        return
    task.dead_letters += 1
    failure = held.failure
    letter = dead_letters.MemberDeadLetter(
        run_id=run.run_id,
        request_id=run.request_id,
        session_id=run.session_id,
        agent=task.order.agent,
        deliveries=held.deliveries,
        held=index in task.held,
        **failure.model_dump(),
    )
    # The same in a repeated turn, and another one when a redriven member fails again.
    letter_id = dead_letters.member_dead_letter_id(
        run.run_id, task.group, task.name, failure.index, task.redrives.get(index, 0), task.iteration
    )
    _post(turn, letter, dead_letters.MEMBER_FAILED, f"{failure.error_type}: {failure.message}", letter_id)


def _will_be_handled(task: Task) -> bool:
    """True if the failure of a member fails its task, which handles it. Where failures are tolerated, the task may
    complete, and its `error_key` stays absent."""
    order = task.order
    return order.error_key is not None and (order.expansion is None or order.tolerated_failures in (0, "0%"))


def write_omitted_dead_letter(turn: Turn, run: Run, task: Task) -> None:
    """Write one dead letter with the number of failed members that have none, when their task ends."""
    count = task.omitted_dead_letters
    message = f"{count} further members of {task.group}/{task.name} failed, and have no dead letters of their own"
    letter = dead_letters.MemberDeadLetter(
        run_id=run.run_id,
        request_id=run.request_id,
        session_id=run.session_id,
        group=task.group,
        task=task.name,
        member=task.name,
        agent=task.order.agent,
        error_type="",
        message=message,
        omitted=count,
    )
    letter_id = f"{run.run_id}/{task.group}/{task.name}/omitted"
    _post(turn, letter, dead_letters.MEMBERS_OMITTED, message, letter_id)


def _post(turn: Turn, letter: dead_letters.MemberDeadLetter, code: str, reason: str, letter_id: str) -> None:
    names = turn.config.names
    headers = {
        dead_letters.CODE: code.encode(),
        dead_letters.REASON: reason.encode("utf-8", "replace")[:REASON_BYTES],
        dead_letters.ORIGIN: f"{names.groups}/{turn.partition.number}/{turn.offset}".encode(),
        dead_letters.SIGNATURE: letter.signature.encode(),
        dead_letters.DEAD_LETTER_ID: letter_id.encode("utf-8", "replace"),
    }
    value = dumps(letter.to_document())
    turn.effects.append(PublishAfter(Outgoing(names.dead_letters, letter.run_id, value, headers=headers)))
