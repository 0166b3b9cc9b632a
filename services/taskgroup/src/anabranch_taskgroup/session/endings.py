"""Ends a step, once: publishes its values or their absence, frees its state, and closes its group. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import outcome_name
from anabranch.core.outputs import derived_key
from anabranch_taskgroup.session.budgets import settle_costs
from anabranch_taskgroup.session.cache import release_flights
from anabranch_taskgroup.session.children import command
from anabranch_taskgroup.session.chunks import schedule_group
from anabranch_taskgroup.session.context_merge import contribute, producer_ended
from anabranch_taskgroup.session.dead_letters import count_held, write_omitted_dead_letter
from anabranch_taskgroup.session.event_waits import stop_waiting
from anabranch_taskgroup.session.failures import error_value, task_failure
from anabranch_taskgroup.session.groups import close_group
from anabranch_taskgroup.session.keys import scope_of, set_key
from anabranch_taskgroup.session.limit_returns import return_all
from anabranch_taskgroup.session.loop_bodies import leave_iteration, release_body
from anabranch_taskgroup.session.mailboxes import leave
from anabranch_taskgroup.session.merge import Joined, is_separate
from anabranch_taskgroup.session.skips import is_by_failure
from anabranch_taskgroup.session.state import Absent, Group, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.store_keys import stored_of
from anabranch_taskgroup.session.task_state import Skip, Task
from anabranch_taskgroup.session.turn import Turn, WriteDerivedKeys
from anabranch_taskgroup.session.value_references import as_published, reference_to


def complete(turn: Turn, run: Run, task: Task, event: TaskEvent, joined: list[Joined]) -> None:
    """Complete a step with the value of each of its result keys."""
    group = run.groups[task.group]
    # The keys of a loop body are published by the loop, once it has ended.
    is_public = task.order.in_loop is None
    if is_public and task.spilled and is_separate(task):
        _write_derived_keys(turn, run, group, task)
    values: list[tuple[str, Value]] = []
    for each in joined:
        value = Value(each.value, each.is_reference)
        if is_public:
            _publish(turn, run, group, task, each, value)
        if each.key not in task.order.shares:
            values.append((each.key, value))
    if task.order.expansion is not None:
        turn.event(run, "task.joined", task=task, count=task.total, failed=len(task.failed), status="completed")
    # After all of them are published: the steps that this releases may be offered in the same turn.
    scope = run if is_public else scope_of(run, task)
    for key, value in values:
        set_key(turn, run, scope, key, value)
    if task.order.error_key is not None and task.order.error_key not in task.order.result_keys:
        set_key(turn, run, scope, task.order.error_key, Absent(f"{task.group}/{task.name} completed"))
    _finish(turn, run, task, event)


def _write_derived_keys(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """The derived keys of a wide `separate` join: the shell writes them from the pages."""
    for key in task.order.result_keys:
        for identifier in task.identifiers.values():
            name = derived_key(identifier, key)
            run.derived[name] = f"{task.group}/{task.name}"
            group.results[name] = reference_to(run, name, 1, 0)
    turn.effects.append(
        WriteDerivedKeys(
            run_id=run.run_id,
            request_id=run.request_id,
            session_id=run.session_id,
            group=group.name,
            task=task.name,
            keys=task.order.result_keys,
            ttl=turn.ttl(run),
            at=turn.at,
            version=turn.offset,
            sources=tuple(stored_of(task, key) for key in task.order.result_keys),
            inline_limit=run.inline_limit,
        )
    )


def _publish(turn: Turn, run: Run, group: Group, task: Task, joined: Joined, value: Value) -> None:
    """Publish a value. The plain key comes after its derived keys: it is the commit point of the join."""
    published = as_published(turn, run, stored_of(task, joined.key), value)
    for key, derived_value in joined.derived:
        published_derived = as_published(turn, run, key, Value(derived_value))
        turn.publish_result(run, group, task, key, published_derived)
        run.derived[key] = f"{task.group}/{task.name}"
        group.results[key] = published_derived.document
    if joined.key in task.order.shares:
        contribute(run, task, joined, published.value)
        return
    # The change of the context is recorded for the plain key only: it contains the values of the derived keys.
    turn.record_change(run, joined.key, "result", published, group=group.name, task=task.order.name)
    turn.publish_result(run, group, task, joined.key, published)
    group.results[joined.key] = published.document


def fail(turn: Turn, run: Run, task: Task, event: TaskEvent, error_type: str, message: str) -> None:
    """Fail a step as a whole. Its failure has the index -1, since it belongs to no member."""
    task.failed[-1] = task_failure(task, error_type, message)
    end(turn, run, task, event, error_type=error_type, message=message)


def end(
    turn: Turn,
    run: Run,
    task: Task,
    event: TaskEvent,
    *,
    silent: bool = False,
    skip: Skip | None = None,
    **data: Any,
) -> None:
    """End a step without values: its keys stay absent in this run.

    Args:
        silent: emit no lifecycle event.
        skip: why the step is skipped.
        data: what the lifecycle event says besides.
    """
    after = next_state(task.state, event)
    if skip is not None:
        task.skip = skip
        data |= {"reason": skip.reason, "because": skip.because}
    if not silent:
        turn.event(run, f"task.{_EVENT_OF[after]}", group=task.group, task=task, **data)
    scope = scope_of(run, task)
    absent = Absent(f"{task.group}/{task.name} {after.lower()}", is_by_failure(task, after))
    error_key = task.order.error_key
    if error_key is not None:
        error = _publish_error(turn, run, task, error_key) if after is TaskState.FAILED else absent
        set_key(turn, run, scope, error_key, error)
    for key in task.order.result_keys:
        if key not in task.order.shares and key != error_key:
            set_key(turn, run, scope, key, absent)
    _finish(turn, run, task, event)


def _publish_error(turn: Turn, run: Run, task: Task, key: str) -> Value:
    """Publish why a task failed as the value of its `error_key`, as any result."""
    value = Value(error_value(task))
    if task.order.in_loop is not None:
        return value
    published = as_published(turn, run, key, value)
    turn.record_change(run, key, "result", published, group=task.group, task=task.name)
    group = run.groups[task.group]
    turn.publish_result(run, group, task, key, published)
    group.results[key] = published.document
    return value


_EVENT_OF = {
    TaskState.FAILED: "failed",
    TaskState.SKIPPED: "skipped",
    TaskState.CANCELLED: "cancelled",
    TaskState.TIMED_OUT: "cancelled",
}


def _finish(turn: Turn, run: Run, task: Task, event: TaskEvent) -> None:
    task.state = next_state(task.state, event)
    if task.held:
        count_held(task)
    if task.omitted_dead_letters and task.order.in_loop is None:
        write_omitted_dead_letter(turn, run, task)
    if task.waits is not None:
        leave(run, task)
        if task.waits.keys:
            stop_waiting(turn, run, task, 0, task.waits.opened)
    if task.children:
        command(turn, run, task, "cancel")
    if task.limits is not None:
        return_all(turn, run, task)
    # Without its chunks, reports about the step that are read later are stale.
    task.free()
    if task.cache_keys:
        release_flights(turn, run, task)
    if run.has_budgets:
        settle_costs(turn, run, run.groups[task.group], task)
    if run.timers.has_work:
        run.timers.cancel_step(task.group, task.name)
    group = run.groups[task.group]
    turn.ended.append((run, group, task))
    group.unfinished -= 1
    if task.order.compensate is not None and _has_completed(task):
        run.undo.append((task.group, task.name))
    if task.order.announces:
        _announce(turn, run, task)
    if task.order.in_loop is not None:
        leave_iteration(turn, run, group, task)
    if group.need is not None or group.fail_fast:
        turn.undecided.append((run, group, task))
    if task.order.kind == "loop":
        release_body(turn, run, group, task)
    # The step no longer counts against the limit of its group: others may offer members.
    if group.max_concurrency is not None:
        schedule_group(turn, run, group)
    # A key with a policy is published by the group of its last declared producer, which may wait for this step.
    for home in producer_ended(turn, run, task) if task.order.shares else ():
        if home is not group:
            close_group(turn, run, home)
    if not group.unfinished:
        close_group(turn, run, group)


def _has_completed(task: Task) -> bool:
    """True if the task has a completed member; a kind of step without members is one itself."""
    return bool(task.completed) or (task.state is TaskState.COMPLETED and task.order.expansion is None)


def _announce(turn: Turn, run: Run, task: Task) -> None:
    """Set the key by which other tasks wait for the end of this one: a switch has a choice, and only a task that
    completed has a value."""
    if task.state is TaskState.COMPLETED:
        outcome: Value | Absent = Value("completed" if task.choice is None else task.choice)
    else:
        reason = f"{task.group}/{task.name} {task.state.lower()}"
        outcome = Absent(reason, is_by_failure(task, task.state))
    set_key(turn, run, scope_of(run, task), outcome_name(task.group, task.name), outcome)
