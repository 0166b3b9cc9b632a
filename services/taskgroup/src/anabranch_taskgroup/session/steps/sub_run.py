"""The kind of step that starts a run of its own for each member, and takes the results of these runs. Pure.

A sub-run is requested until its owner has answered. A stopped step cancels its sub-runs and ends after them; with
`on_parent_end: abandon` it waits only until they are known to exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from anabranch.core.errors import ResultError
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.outputs import reference_count
from anabranch.core.ranges import Ranges, single_range
from anabranch.core.reasons import Fact, Missing
from anabranch.core.request.flow import SubRun
from anabranch.core.retry import counted, delay_after, retrial_after, unit_from
from anabranch.core.sub_runs import CANCELLED, FAILED, MAX_DEPTH, REJECTED, TOO_DEEP, values_of_child
from anabranch.core.wire.messages import ChildEnded, ChildStarted, ChildValue, MemberFailed, MembersTaken, Message
from anabranch.core.wire.results import is_reference
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.budgets import release_child
from anabranch_taskgroup.session.children import child_id, command
from anabranch_taskgroup.session.chunks import release_due, reoffer_at, schedule
from anabranch_taskgroup.session.dead_letters import count_failed, emit_failure, failure_of
from anabranch_taskgroup.session.endings import end, fail
from anabranch_taskgroup.session.failures import task_failure
from anabranch_taskgroup.session.merge import add_results, is_separate, spill_if_large
from anabranch_taskgroup.session.retry_import import NO_CHUNK
from anabranch_taskgroup.session.spending import add_costs
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.steps.expansion import expand_in_memory, has_large_array
from anabranch_taskgroup.session.steps.joins import advance, report_partial, run_members
from anabranch_taskgroup.session.steps.kind import Activity, Signal, Step, StepKind, Wait
from anabranch_taskgroup.session.steps.member_waits import member_waits
from anabranch_taskgroup.session.steps.task import MEMBER_SIGNALS
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import TimerKind
from anabranch_taskgroup.session.turn import AskChildren, CountArrays, TakeChild, Turn


class RunKind(StepKind):
    """Starts a sub-run, or one for each member of an expansion."""

    name: ClassVar[str] = "run"

    def begin(self, turn: Turn, step: Step) -> None:
        run, _, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        task.children = {}
        if run.depth >= MAX_DEPTH:
            message = f"the run is nested in {run.depth} runs, and a sub-run in {MAX_DEPTH} at most"
            fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, TOO_DEEP, message)
        elif task.order.expansion is None:
            task.total = 1
            run_members(turn, run, task)
        elif has_large_array(run, task):
            turn.effects.append(CountArrays(run.run_id, task.group, task.name))
        else:
            expand_in_memory(turn, run, task)

    def on_signal(self, turn: Turn, step: Step, signal: Signal, segments: tuple[bytes, ...]) -> None:
        handler = _ON_SIGNAL.get(type(signal))
        if handler is None:
            turn.partition.drop("signal that this kind of step does not know")
            return
        handler(turn, step, signal, segments)

    def due(self, turn: Turn, step: Step, timer: TimerKind, now: float) -> None:
        if release_due(step.run, step.task, now):
            schedule(turn, *step)

    def resume(self, turn: Turn, step: Step) -> None:
        if step.task.state is TaskState.RUNNING:
            schedule(turn, *step)

    def on_pause(self, turn: Turn, step: Step) -> None:
        # Sub-runs of a stopped step are cancelled, or go on without it.
        if step.task.stopping is None:
            command(turn, step.run, step.task, "pause" if step.run.paused else "resume")

    def lingers(self, turn: Turn, step: Step, event: TaskEvent) -> bool:
        run, _, task = step
        if not task.children:
            return False
        if _sub_run(task).on_parent_end == "abandon":
            if run.paused:
                # They were paused with their parent, and a resume of it no longer reaches them.
                command(turn, run, task, "resume")
            _abandon(task, task.known_children)
            if not task.children:
                return False
        else:
            command(turn, run, task, "cancel")
        # The first stop counts, as for the run.
        task.stopping = task.stopping or event
        return True

    def cancel(self, turn: Turn, step: Step) -> None:
        if step.task.state is TaskState.RUNNING:
            report_partial(turn, step.run, step.task)

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        run, _, task = step
        for index, attempt in (task.children or {}).items():
            child = child_id(run.run_id, task, index, attempt).run_id
            place = f"{task.group}/{task.name}" + (f"[{index}]" if task.order.expansion is not None else "")
            detail = f"waits for run {child} ({place})"
            if index not in task.known_children:
                detail += ", which has not been admitted yet"
            members = ((index, index + 1),) if task.order.expansion is not None else None
            yield Wait(Missing(Fact.WAITS_FOR_RUN, task.group, task.name, members=members, detail=detail))
        yield from member_waits(run, task, names)

    def derive(self, step: Step) -> Iterator[Effect]:
        run, group, task = step
        if task.state is TaskState.READY:
            yield CountArrays(run.run_id, group.name, task.name)
        elif task.children:
            yield AskChildren(run.run_id, group.name, task.name)

    def activity(self, task: Task) -> Activity:
        # A nudge asks about the sub-runs again, so that a lost answer is repeated.
        return Activity.WORKING if task.children or task.state is TaskState.READY else Activity.WAITING


def _sub_run(task: Task) -> SubRun:
    assert task.order.run is not None
    return task.order.run


def _abandon(task: Task, members: Ranges) -> None:
    """Forget open sub-runs, which go on without the step."""
    assert task.children is not None
    for index in members.indexes():
        task.children.pop(index, None)
        release_child(task, index)
    task.known_children = task.known_children.difference(members)


# --- signals -------------------------------------------------------------------------------------


def _open_attempt(turn: Turn, step: Step, message: ChildStarted | ChildEnded | ChildValue) -> bool:
    """True if the sub-run that a message is about is the open one of its member."""
    task = step.task
    is_open = (
        task.children is not None
        and task.children.get(message.index) == message.attempt
        and task.iteration == message.iteration
    )
    if not is_open:
        turn.partition.drop("answer about a sub-run that is not open")
    return is_open


def _started(turn: Turn, step: Step, message: ChildStarted, segments: tuple[bytes, ...]) -> None:
    run, _, task = step
    index = message.index
    if not _open_attempt(turn, step, message) or index in task.known_children:
        return
    spans = ((index, index + 1),)
    task.known_children = task.known_children.union(single_range(index, index + 1))
    task.started |= spans
    turn.event(
        run, "task.started", task=task, spans=spans, attempt=message.attempt, child_run_id=message.child_run_id
    )
    if task.stopping is not None and _sub_run(task).on_parent_end == "abandon":
        _abandon(task, single_range(index, index + 1))
        _go_on(turn, step)


def _ended(turn: Turn, step: Step, message: ChildEnded, segments: tuple[bytes, ...]) -> None:
    if not _open_attempt(turn, step, message):
        return
    run, group, task = step
    if message.status != "completed":
        _not_completed(turn, step, message)
    elif is_separate(task) or _has_reference(message):
        turn.effects.append(
            TakeChild(
                run.run_id,
                group.name,
                task.name,
                message.index,
                message.attempt,
                message.child_run_id,
                message.child_session_id,
                message.results,
                message.costs,
            )
        )
    else:
        _take_inline(turn, step, message)


def _has_reference(message: ChildEnded) -> bool:
    session = message.child_session_id
    return is_reference(message.results, session) or any(
        is_reference(value, session) for value in message.results.values()
    )


def _take_inline(turn: Turn, step: Step, message: ChildEnded) -> None:
    order = step.task.order
    try:
        values = values_of_child(
            _sub_run(step.task), order.result_keys, order.optional_result_keys, message.results
        )
    except ResultError as error:
        _failed(turn, step, message, "ResultError", str(error))
        return
    _complete(turn, step, message, tuple(dumps([value]) for value in values), items_in(step.task, values))


def items_in(task: Task, values: list[Any]) -> tuple[int, ...]:
    """For each result key: the number of items that a member's value adds to a merged list, or of its value."""
    if task.order.expansion is None:
        return tuple(map(reference_count, values))
    return tuple(len(value) if isinstance(value, list) else 1 for value in values)


def _value(turn: Turn, step: Step, message: ChildValue, segments: tuple[bytes, ...]) -> None:
    if not _open_attempt(turn, step, message):
        return
    if message.error is not None:
        _failed(turn, step, message, FAILED, message.error)
    else:
        _complete(turn, step, message, segments, message.items)


def _complete(
    turn: Turn, step: Step, message: ChildEnded | ChildValue, segments: tuple[bytes, ...], items: tuple[int, ...]
) -> None:
    run, group, task = step
    spans = ((message.index, message.index + 1),)
    _close(task, message)
    task.retrier_attempts.pop(message.index, None)
    taken = MembersTaken(
        run_id=run.run_id, group=group.name, task=task.name, total=task.total, completed=spans, items=items
    )
    add_results(task, taken, segments, NO_CHUNK, 0)
    task.ended += 1
    turn.event(run, "task.completed", task=task, spans=spans, attempt=message.attempt)
    spill_if_large(turn, run, task)
    _go_on(turn, step)


def _close(task: Task, message: ChildEnded | ChildValue) -> None:
    assert task.children is not None
    index = message.index
    add_costs(task, message.costs)
    release_child(task, index)
    del task.children[index]
    task.known_children = task.known_children.without(((index, index + 1),))


def _go_on(turn: Turn, step: Step) -> None:
    """A sub-run is no longer open: end a step that was stopped, else join it or start further ones."""
    run, group, task = step
    if task.stopping is None:
        advance(turn, run, group, task)
    elif not task.children:
        if task.state is TaskState.RUNNING:
            report_partial(turn, run, task)
        end(turn, run, task, task.stopping)


def _not_completed(turn: Turn, step: Step, message: ChildEnded) -> None:
    task, child = step.task, message.child_run_id
    if message.status == "cancelled" and task.stopping is not None:
        _close(task, message)
        _go_on(turn, step)
    elif message.status == "cancelled":
        _cancelled(turn, step, message, f"run {child} was cancelled")
    elif message.status == "rejected":
        _failed(turn, step, message, REJECTED, f"the request of run {child} was rejected: {message.message}")
    elif message.status == "lost":
        _failed(turn, step, message, FAILED, f"run {child} is not known any more")
    else:
        _failed(turn, step, message, FAILED, _why(message))


def _why(message: ChildEnded) -> str:
    status = "timed out" if message.status == "timed_out" else "failed"
    text = f"run {message.child_run_id} {status}"
    reasons = [f"{each.group}/{each.task}: {each.error_type}: {each.message}" for each in message.failures]
    if message.message:
        reasons.insert(0, message.message)
    return f"{text}: {'; '.join(reasons)}"[:4_000] if reasons else text


def _cancelled(turn: Turn, step: Step, message: ChildEnded, why: str) -> None:
    """A sub-run was cancelled, not by its parent: so is the step. In an expansion it is a failed member."""
    run, _, task = step
    if task.order.expansion is not None:
        _failed(turn, step, message, CANCELLED, why)
        return
    _close(task, message)
    task.failed[-1] = task_failure(task, CANCELLED, why)
    end(turn, run, task, TaskEvent.CANCEL, error_type=CANCELLED, message=why)


def _failed(turn: Turn, step: Step, message: ChildEnded | ChildValue, error_type: str, why: str) -> None:
    """A sub-run did not complete: the policy of the step decides whether the member has another attempt."""
    run, _, task = step
    index, attempt = message.index, message.attempt
    _close(task, message)
    # A request that was rejected would be rejected again.
    is_final = task.stopping is not None or error_type == REJECTED
    delay = None if is_final else _retry_delay(run, task, index, attempt, error_type)
    if delay is not None:
        turn.event(
            run,
            "task.retrying",
            task=task,
            spans=((index, index + 1),),
            attempt=attempt,
            error_type=error_type,
            message=why,
            delay=delay,
        )
        task.schedule_retry(turn.at + delay, index, attempt)
        reoffer_at(run, task, turn.at + delay)
    else:
        failure = failure_of(
            task, MemberFailed(index=index, error_type=error_type, message=why, attempts=attempt), None
        )
        task.retrier_attempts.pop(index, None)
        count_failed(task, index, failure)
        emit_failure(turn, run, task, index, failure)
    _go_on(turn, step)


def _retry_delay(run: Run, task: Task, index: int, attempt: int, error_type: str) -> float | None:
    """Seconds to the next attempt; None if the member has failed. Counts the attempt against its policy."""
    types, random = (error_type, "Exception"), unit_from(child_id(run.run_id, task, index, attempt).request_id)
    policies = task.order.retriers
    if not policies:
        return delay_after(task.order.retry, attempt, types, random)
    made = task.retrier_attempts.get(index, ())
    retrial = retrial_after(policies, made, types, random)
    task.retrier_attempts[index] = counted(made, retrial.retrier, len(policies))
    return retrial.delay


_ON_SIGNAL: dict[type[Any], Callable[[Turn, Step, Any, tuple[bytes, ...]], None]] = {
    **MEMBER_SIGNALS,
    ChildStarted: _started,
    ChildEnded: _ended,
    ChildValue: _value,
}
SIGNALS: tuple[type[Message], ...] = (ChildStarted, ChildEnded, ChildValue)
"""The messages about sub-runs."""
