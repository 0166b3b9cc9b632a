"""How a task goes through its table: dependencies met, members counted, joined, and the group after it. Pure.

What one ending sets free is worked off in the same turn, by a queue and not by recursion, so a chain of ten
thousand tasks that a failure skips is no deeper than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import as_list, expand, lookup_path, sources
from anabranch.core.outputs import derived_key
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import Counts, GroupFinished, GroupResults, Need, Status
from anabranch_taskgroup.session.chunks import schedule, schedule_group
from anabranch_taskgroup.session.context_merge import contribute, producer_ended
from anabranch_taskgroup.session.dead_letters import count_held, write_last_letter
from anabranch_taskgroup.session.expiry import retire
from anabranch_taskgroup.session.failures import all_failures, first_failures, task_failure, write_pages
from anabranch_taskgroup.session.keys import set_key
from anabranch_taskgroup.session.merge import (
    Joined,
    empty_join,
    foreseen_problem,
    is_separate,
    join_problem,
    join_task,
)
from anabranch_taskgroup.session.retry_import import go_on_from_taken, taken_over
from anabranch_taskgroup.session.retry_snapshot import keep_outcomes
from anabranch_taskgroup.session.state import Absent, Group, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import CountArrays, SpreadKeys, Turn, Unwatch, Watch
from anabranch_taskgroup.session.value_references import reference_to, tell

RESULTS_BYTES = 500_000
"""Results that one record takes along."""


# --- dependencies --------------------------------------------------------------------------------


def admit(turn: Turn, run: Run, task: Task) -> None:
    """A new task: see what it waits for."""
    if run.stopped:
        end(turn, run, task, _stop_event(run))
        return
    for need in task.order.needs:
        _await(turn, run, task, need)
    _start_or_skip(turn, run, task)


def _await(turn: Turn, run: Run, task: Task, need: Need) -> None:
    if need.key in run.values:
        return
    if need.kind == "absent":
        run.values[need.key] = Absent("nobody produces it")
        return
    task.missing.add(need.key)
    run.waiters.setdefault(need.key, []).append(task)
    if need.kind == "external":
        run.from_outside.add(need.key)
    if need.kind in ("external", "session") and need.key not in run.watched:
        run.watched.add(need.key)
        turn.effects.append(Watch(run.run_id, run.session_id, need.key))


def _start_or_skip(turn: Turn, run: Run, task: Task) -> None:
    """Skip a task as soon as a required key is known to stay absent; start it once all are known."""
    lacking = next((need for need in task.order.needs if _is_lacking(run, need)), None)
    if lacking is not None:
        end(turn, run, task, TaskEvent.DEPENDENCY_ABSENT, lacking=lacking.key)
    elif not task.missing:
        _begin(turn, run, task)


def _is_lacking(run: Run, need: Need) -> bool:
    return not need.optional and isinstance(run.values.get(need.key), Absent)


def settle(turn: Turn) -> None:
    """Look at whoever waited for what became known, until nothing more becomes known."""
    while turn.known:
        run, key = turn.known.pop(0)
        for task in run.waiters.pop(key, ()):
            task.missing.discard(key)
            # All needs of a task are looked at with its last key, or an absent one: of thousands, not at each.
            if task.state is TaskState.WAITING and (not task.missing or isinstance(run.values[key], Absent)):
                _start_or_skip(turn, run, task)


def visible_values(run: Run, task: Task) -> dict[str, Value]:
    """The values of a task's dependencies, those that it has."""
    found = ((need.key, run.values.get(need.key)) for need in task.order.needs)
    return {key: value for key, value in found if isinstance(value, Value)}


# --- expansion -----------------------------------------------------------------------------------


def _begin(turn: Turn, run: Run, task: Task) -> None:
    task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
    if task.order.expansion is None:
        task.total = 1
        _run(turn, run, task)
    elif _has_large_array(run, task):
        turn.effects.append(CountArrays(run.run_id, task.group, task.name))
    else:
        _expand_here(turn, run, task)


def _has_large_array(run: Run, task: Task) -> bool:
    expansion = task.order.expansion
    assert expansion is not None
    values = visible_values(run, task)
    paths = [source for source in sources(expansion).values() if isinstance(source, str)]
    return any(value.is_reference and _is_under(key, paths) for key, value in values.items())


def _is_under(key: str, paths: Iterable[str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for path in paths)


def _expand_here(turn: Turn, run: Run, task: Task) -> None:
    expansion = task.order.expansion
    assert expansion is not None
    data = {key: value.data for key, value in visible_values(run, task).items()}
    try:
        task.expanded = expand(expansion, arrays_of(task, data), limit=run.member_limit)
    except ExpansionError as error:
        refuse_expansion(turn, run, task, str(error))
        return
    if (problem := foreseen_problem(run, task, task.expanded)) is not None:
        refuse_expansion(turn, run, task, problem)
        return
    count_members(turn, run, task, task.expanded.count)


def arrays_of(task: Task, data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The arrays of an expansion out of the values of the task's dependencies.

    Raises:
        ExpansionError: a path leads nowhere, or to something that is no list.
    """
    expansion = task.order.expansion
    assert expansion is not None
    return {name: as_list(_source(data, name, source), name) for name, source in sources(expansion).items()}


def _source(data: Mapping[str, Any], name: str, source: Any) -> Any:
    if not isinstance(source, str):
        return source
    try:
        return lookup_path(data, source)
    except KeyError:
        raise ExpansionError(f"the array for {name!r} is missing: nothing stands at {source!r}") from None


def count_members(turn: Turn, run: Run, task: Task, count: int) -> None:
    """The number of members is known: run them, or do what the request says of none."""
    expansion = task.order.expansion
    assert expansion is not None
    task.total = count
    task.member_bytes = _member_bytes(run, task)
    turn.event(run, "task.expanded", group=task.group, task=task, count=count)
    if count:
        _run(turn, run, task)
    elif expansion.on_empty == "complete":
        _complete(turn, run, task, TaskEvent.EMPTY_COMPLETE, empty_join(task))
    elif expansion.on_empty == "skip":
        end(turn, run, task, TaskEvent.EMPTY_SKIP)
    else:
        message = "the expansion has no members, and on_empty says fail"
        task.failed[-1] = task_failure(task, "ExpansionError", message)
        end(turn, run, task, TaskEvent.EMPTY_FAIL, error_type="ExpansionError", message=message)


def _member_bytes(run: Run, task: Task) -> float:
    """Bytes of the items that the offer of one member takes along, on average: those of arrays in the store. The
    others of a run are small."""
    expansion = task.order.expansion
    if expansion is None or expansion.type != "array" or not task.total:
        return 0.0
    paths = [source for source in sources(expansion).values() if isinstance(source, str)]
    found = visible_values(run, task).items()
    large = [value for key, value in found if value.is_reference and _is_under(key, paths)]
    return sum(int(value.data["bytes"]) for value in large) / task.total


def refuse_expansion(turn: Turn, run: Run, task: Task, message: str) -> None:
    """The arrays do not make an expansion: the task fails, the run goes on."""
    task.failed[-1] = task_failure(task, "ExpansionError", message)
    end(turn, run, task, TaskEvent.EXPANSION_REFUSED, error_type="ExpansionError", message=message)


def refuse_value(turn: Turn, run: Run, key: str, reason: str) -> None:
    """What was found under a key from outside is no value: tasks that require it fail, for others it is absent."""
    message = f"the value of {key!r}, which came from outside the run, cannot be used: {reason}"
    for task in list(run.waiters.get(key, ())):
        is_required = any(need.key == key and not need.optional for need in task.order.needs)
        if is_required and task.state is TaskState.WAITING:
            task.failed[-1] = task_failure(task, "InvalidValue", message)
            end(turn, run, task, TaskEvent.DEPENDENCY_REFUSED, error_type="InvalidValue", message=message)
    set_key(turn, run, key, Absent(message))


def _run(turn: Turn, run: Run, task: Task) -> None:
    task.state = next_state(task.state, TaskEvent.EXPANDED)
    go_on_from_taken(turn, run, task)
    schedule(turn, run, run.groups[task.group], task)
    close_if_ended(turn, run, task)


# --- endings -------------------------------------------------------------------------------------


def close_if_ended(turn: Turn, run: Run, task: Task) -> None:
    """Join a task once each of its members has ended; it happens in the turn of the last one, and once."""
    if task.state is not TaskState.RUNNING or task.ended < task.total:
        return
    if len(task.failed) > tolerated(task):
        _break(turn, run, task)
    elif (problem := join_problem(run, task)) is not None:
        refuse_expansion(turn, run, task, problem)
    else:
        _complete(turn, run, task, TaskEvent.JOINED, join_task(turn, run, task))


def go_on(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Members ended or came back: join, or offer what there is room for."""
    close_if_ended(turn, run, task)
    if group.max_concurrency is not None:
        schedule_group(turn, run, group)
    else:
        schedule(turn, run, group, task)


def tolerated(task: Task) -> int:
    """Members that may fail without failing the task; a share is of the members there are, rounded down.

    Only an expansion can do without a member: an ordinary task that failed has no value to go on with."""
    if task.order.expansion is None:
        return 0
    allowed = task.order.tolerated_failures
    if isinstance(allowed, int):
        return allowed
    return int(float(str(allowed).rstrip("%")) * task.total / 100 + 1e-9)


def _complete(turn: Turn, run: Run, task: Task, event: TaskEvent, joined: list[Joined]) -> None:
    group = run.groups[task.group]
    if task.spilled and is_separate(task):
        _spread(turn, run, group, task)
    for each in joined:
        _publish(turn, run, group, task, each)
    if task.order.expansion is not None:
        turn.event(run, "task.joined", task=task, count=task.total, failed=len(task.failed), status="completed")
    for each in joined:
        if each.key not in task.order.shares:
            set_key(turn, run, each.key, Value(each.value, each.is_reference))
    _over(turn, run, task, event)


def _spread(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """The derived keys of a wide `separate` join: the shell writes them from the pages."""
    for key in task.order.result_keys:
        for identifier in task.identifiers.values():
            name = derived_key(identifier, key)
            run.derived[name] = f"{task.group}/{task.name}"
            group.results[name] = reference_to(run, name, 1, 0)
    turn.effects.append(
        SpreadKeys(
            run_id=run.run_id,
            request_id=run.request_id,
            session_id=run.session_id,
            group=group.name,
            task=task.name,
            keys=task.order.result_keys,
            ttl=turn.ttl(run),
            at=turn.at,
            version=turn.offset,
            sources=tuple(stored_key(task.order, key) for key in task.order.result_keys),
            inline_limit=run.inline_limit,
        )
    )


def _publish(turn: Turn, run: Run, group: Group, task: Task, joined: Joined) -> None:
    """Derived keys first, the plain key last: it is the commit point."""
    told = tell(turn, run, stored_key(task.order, joined.key), Value(joined.value, joined.is_reference))
    for key, derived_value in joined.derived:
        told_derived = tell(turn, run, key, Value(derived_value))
        turn.publish_derived(run, group, task, key, told_derived)
        run.derived[key] = f"{task.group}/{task.name}"
        group.results[key] = told_derived.shown
    if joined.key in task.order.shares:
        contribute(run, task, joined, told.value)
        return
    turn.publish_result(run, group, task, joined.key, told)
    group.results[joined.key] = told.shown


def _break(turn: Turn, run: Run, task: Task) -> None:
    """Too many members failed. What the others gave is kept for the run's report, and satisfies nobody."""
    keep_partial(turn, run, task)
    count = len(task.failed)
    if task.order.expansion is not None:
        message = f"{count} of {task.total} members failed, {tolerated(task)} are tolerated"
        turn.event(run, "task.joined", task=task, count=task.total, failed=count, status="failed", message=message)
    end(turn, run, task, TaskEvent.BROKEN, silent=True)


def keep_partial(turn: Turn, run: Run, task: Task) -> None:
    """Hand what an expanded task's members gave so far to the run's report."""
    if task.order.expansion is not None and len(task.completed):
        for each in join_task(turn, run, task):
            if each.key not in task.order.shares:
                told = tell(turn, run, each.key, Value(each.value, each.is_reference))
                run.groups[task.group].results[each.key] = told.shown


def end(
    turn: Turn,
    run: Run,
    task: Task,
    event: TaskEvent,
    *,
    silent: bool = False,
    lacking: str | None = None,
    **data: Any,
) -> None:
    """End a task without values: its keys will stay absent in this run."""
    after = next_state(task.state, event)
    if not silent:
        if lacking:
            data["reason"] = f"{lacking!r} is absent"
        turn.event(run, f"task.{_EVENT_OF[after]}", group=task.group, task=task, **data)
    for key in task.order.result_keys:
        if key not in task.order.shares:
            set_key(turn, run, key, Absent(f"{task.group}/{task.name} {after.lower()}"))
    _over(turn, run, task, event)


_EVENT_OF = {
    TaskState.FAILED: "failed",
    TaskState.SKIPPED: "skipped",
    TaskState.CANCELLED: "cancelled",
    TaskState.TIMED_OUT: "cancelled",
}


def _over(turn: Turn, run: Run, task: Task, event: TaskEvent) -> None:
    """The last step of a task: free what its join needed, and see whether the group is done."""
    task.state = next_state(task.state, event)
    count_held(task)
    write_last_letter(turn, run, task)
    task.chunks.clear()
    task.waiting.clear()
    task.requeued.clear()
    task.retries.clear()
    run.timers.cancel_step(task.group, task.name)
    task.parked.clear()
    task.careful = Ranges()
    task.deaths.clear()
    task.expanded = None
    group = run.groups[task.group]
    turn.ended.append((run, group, task))
    group.unfinished -= 1
    if group.max_concurrency is not None:
        schedule_group(turn, run, group)
    for home in producer_ended(turn, run, task) if task.order.shares else ():
        if home is not group:
            close_group(turn, run, home)
    close_group(turn, run, group)


def _stop_event(run: Run) -> TaskEvent:
    return TaskEvent.TIME_OUT if run.stopped == "timed_out" else TaskEvent.CANCEL


def stop_tasks(turn: Turn, run: Run, tasks: Iterable[Task], event: TaskEvent) -> None:
    """End whatever has not ended; what completed of a join is kept for the report."""
    for task in list(tasks):
        if not task.is_over:
            if task.state is TaskState.RUNNING:
                keep_partial(turn, run, task)
            end(turn, run, task, event)


# --- groups --------------------------------------------------------------------------------------


def close_group(turn: Turn, run: Run, group: Group) -> None:
    """Tell the run's owner once each task of a group has ended."""
    if group.announced or not group.is_known or group.unfinished or group.unsettled:
        return
    group.announced = True
    run.timers.cancel(Timer(TimerKind.GROUP_TIMEOUT, group.name))
    status = group_status(group)
    turn.event(run, f"group.{status}", group=group.name)
    turn.ended.append((run, group, None))
    _report_group(turn, run, group, status)
    run.finished_groups += 1
    if run.finished_groups == len(run.expected):
        _forget(turn, run)


def group_status(group: Group) -> Status:
    states = {task.state for task in group.tasks.values()}
    if TaskState.CANCELLED in states:
        return "cancelled"
    if TaskState.TIMED_OUT in states:
        return "timed_out"
    return "failed" if TaskState.FAILED in states or group.conflicts else "completed"


def tell_end(turn: Turn, run: Run, group: Group) -> None:
    """Tell the run's owner once more how a group ended."""
    _report_group(turn, run, group, group_status(group))


def _report_group(turn: Turn, run: Run, group: Group, status: Status) -> None:
    *earlier, last = split_results(group.results)
    runs = turn.rules.names.runs
    for part, results in enumerate(earlier):
        message = GroupResults(
            run_id=run.run_id, group=group.name, part=part, results=results, admission=run.admission
        )
        turn.news(runs, run.run_id, message)
    failures = all_failures(group)
    first = first_failures(failures)
    finished = GroupFinished(
        run_id=run.run_id,
        group=group.name,
        status=status,
        results=last,
        parts=len(earlier),
        failures=first,
        failure_count=len(failures),
        failure_pages=write_pages(turn, run, group, failures) if len(first) < len(failures) else (),
        counts=_counts(group),
        taken_over=taken_over(group),
        warnings=run.warnings,
        admission=run.admission,
    )
    turn.news(runs, run.run_id, finished)


def split_results(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results parted so that each part fits into a record; at least one part, the last may be empty."""
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for key, value in results.items():
        length = len(orjson.dumps(value)) + len(orjson.dumps(key)) + 2
        if size + length > RESULTS_BYTES and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += length
    return parts


def _counts(group: Group) -> Counts:
    counts = Counts()
    for task in group.tasks.values():
        total = max(task.total, 1) if task.state is not TaskState.COMPLETED else task.total
        failed = sum(index >= 0 or not task.total for index in task.failed)
        completed = len(task.completed)
        counts += Counts(
            total=total, completed=completed, failed=failed, skipped=max(0, total - completed - failed)
        )
    return counts


def _forget(turn: Turn, run: Run) -> None:
    if any(group_status(group) != "completed" for group in run.groups.values()):
        keep_outcomes(turn, run)
    retire(turn, run)
    for key in run.watched:
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.partition.forget(run.run_id)
    turn.partition.add_tombstone(run.run_id, "ended", run.admission)
    turn.keep_in_session(run.run_id, "ended", run.opened_at_offset, run.admission)
