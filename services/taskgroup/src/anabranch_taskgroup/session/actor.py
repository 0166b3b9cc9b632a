"""The session's owner: state and message to new state and effects. Pure, and a fold over the log.

It may be given any message twice and any prefix of its messages again; what it knows already changes
nothing. Time is the record's timestamp. `decide` is the whole interface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anabranch.core.admissions import first_fence
from anabranch.core.wire.messages import (
    ArrayCounted,
    CheckRun,
    ChunkLost,
    ChunkReturned,
    ClaimPartition,
    Fragment,
    KeyReduced,
    MembersReported,
    MembersTaken,
    Message,
    Nudge,
    OpenRun,
    PauseRun,
    ReleaseHeld,
    RunTaken,
    RunUnknown,
    StartGroup,
    StopRun,
    TakenPage,
    TimerDue,
    ValueFound,
    ValuePage,
)
from anabranch.core.wire.results import is_reference
from anabranch_taskgroup.session.chunks import (
    apply_report,
    give_back,
    is_contested,
    is_news,
    page_prefix,
    park,
    release_due,
    schedule,
    schedule_group,
)
from anabranch_taskgroup.session.context_merge import pending_reductions, take_reduced
from anabranch_taskgroup.session.held import release
from anabranch_taskgroup.session.keys import is_from_outside, set_key
from anabranch_taskgroup.session.known_runs import (
    abandon,
    answer_lost,
    early_stop,
    give_up_incomplete,
    is_known,
    open_run,
    opened_before,
    stop_unopened,
)
from anabranch_taskgroup.session.lifecycle import (
    admit,
    close_group,
    count_members,
    go_on,
    refuse_expansion,
    refuse_value,
    settle,
    stop_tasks,
    tell_end,
)
from anabranch_taskgroup.session.merge import keep_inline_or_spill
from anabranch_taskgroup.session.missing_agents import note_lack, report_lack
from anabranch_taskgroup.session.overdue import ask_about_overdue, first_question
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.retry_import import all_taken, take_members, take_page, take_when_known
from anabranch_taskgroup.session.retry_import import is_known as is_whole
from anabranch_taskgroup.session.state import Group, MergedKey, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState, may_happen
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.suspects import chunk_broken, worker_gone
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.timers import OVERDUE, Timer, TimerKind, in_request_order
from anabranch_taskgroup.session.turn import CountArrays, DecisionConfig, Halt, LookAgain, Pause, Turn, Watch
from anabranch_taskgroup.session.value_references import ANY_SIZE, tell


@dataclass(frozen=True, slots=True)
class DeliveredMessage:
    """A message as it stands on the log: payload, offset, and the record's timestamp (seconds)."""

    message: Message
    segments: tuple[bytes, ...]
    offset: int
    at: float


def decide(rules: DecisionConfig, partition: PartitionState, delivery: DeliveredMessage) -> Turn:
    """Apply one message to the partition's state; the turn holds the effects and events."""
    turn = Turn(rules, partition, delivery.offset, delivery.at)
    _HANDLERS[type(delivery.message)](turn, delivery.message, delivery.segments)
    settle(turn)
    run = partition.runs.get(getattr(delivery.message, "run_id", ""))
    if run is not None:
        partition.arm(run)
    return turn


def _claimed(turn: Turn, message: ClaimPartition, segments: tuple[bytes, ...]) -> None:
    """Claims are the shell's business: the state of runs does not depend on who owns them."""


def _fragment(turn: Turn, message: Fragment, segments: tuple[bytes, ...]) -> None:
    """The shell puts messages together; what is not whole yet changes nothing."""


# --- opening and stopping ------------------------------------------------------------------------


def _open_run(turn: Turn, message: OpenRun, segments: tuple[bytes, ...]) -> None:
    partition = turn.partition
    if is_known(partition, message):
        opened_before(turn, message)
        return
    stop = early_stop(partition, message)
    if message.run_id in partition.runs:
        abandon(turn, partition.runs[message.run_id])
    run = Run(
        run_id=message.run_id,
        request_id=message.request_id,
        session_id=message.session_id,
        opened_at_offset=turn.offset,
        deadline=message.deadline,
        admission=message.admission,
        inline_limit=turn.rules.inline_limit if message.inline_limit is None else message.inline_limit,
        member_limit=turn.rules.member_limit if message.member_limit is None else message.member_limit,
        expected=message.groups,
        context=dict(message.context),
        traceparent=message.traceparent,
        taking=message.retry_of,
        retry_of=message.retry_of,
        reserved_keys=frozenset(message.reserved_keys),
        shared={key: MergedKey(each.policy, each.producers) for key, each in message.shared.items()},
        submitted_at=message.submitted_at or 0.0,
    )
    run.timers.schedule(OVERDUE, first_question(message.deadline))
    partition.runs[run.run_id] = run
    for key, value in run.context.items():
        run.values[key] = given = Value(value)
        turn.set_context(run, key, tell(turn, run, key, given, ANY_SIZE))
    run.stopped = stop


def _start_group(turn: Turn, message: StartGroup, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("group of an unknown run")
        return
    group = run.groups.get(message.group)
    if group is None:
        group = _new_group(turn, run, message)
    if message.part in group.seen:
        turn.partition.drop("group started before")
        return
    group.seen.add(message.part)
    tasks = [Task(order, group.name, first_fence(run.admission)) for order in message.tasks]
    group.tasks.update((task.name, task) for task in tasks)
    run.producers.update((key, task) for task in tasks for key in task.order.result_keys)
    group.unfinished += len(tasks)
    if run.taking is not None and not run.stopped:
        take_when_known(turn, run)
    else:
        for task in tasks:
            admit(turn, run, task)
    close_group(turn, run, group)
    # A further part of a group whose timeout is over brings tasks that have to be stopped as well.
    if group.deadline is not None and not group.announced and not group.is_stopped:
        run.timers.schedule(Timer(TimerKind.GROUP_TIMEOUT, group.name), group.deadline)


def _new_group(turn: Turn, run: Run, message: StartGroup) -> Group:
    group = Group(message.group, parts=message.parts, max_concurrency=message.max_concurrency)
    group.most_chunks, group.opened_at = message.most_chunks, turn.at
    if message.timeout is not None:
        group.deadline = turn.at + message.timeout
    group.unsettled = {key for key, each in run.shared.items() if each.producers and each.home == group.name}
    run.groups[message.group] = group
    turn.event(run, "group.started", group=group.name)
    return group


def _stop_run(turn: Turn, message: StopRun, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        stop_unopened(turn, message)
        return
    if run.stopped:
        if not is_whole(run):
            give_up_incomplete(turn, run)
        return
    run.stopped = message.reason
    run.timers.bring_forward(OVERDUE, first_question(turn.at))
    turn.effects.append(Halt(run.run_id, run.session_id, message.reason, admission=run.admission))
    event = TaskEvent.TIME_OUT if message.reason == "timed_out" else TaskEvent.CANCEL
    for group in list(run.groups.values()):
        stop_tasks(turn, run, group.tasks.values(), event)


def _check_run(turn: Turn, message: CheckRun, segments: tuple[bytes, ...]) -> None:
    if open_run(turn, message) is None:
        answer_lost(turn, message.run_id, message.admission)


def _pause_run(turn: Turn, message: PauseRun, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("pause of a run that is not open")
        return
    if message.cause < run.pause_cause:
        turn.partition.drop("pause before a later one")
        return
    run.paused, run.pause_cause = message.paused, message.cause
    turn.effects.append(Pause(run.run_id, run.session_id, run.paused, run.deadline))
    if not run.paused:
        for group in run.groups.values():
            schedule_group(turn, run, group)


def _release_held(turn: Turn, message: ReleaseHeld, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("command on a run that is not open")
        return
    release(turn, run, message)


# --- what a retry takes over ---------------------------------------------------------------------


def _members_taken(turn: Turn, message: MembersTaken, segments: tuple[bytes, ...]) -> None:
    found = _find(turn, message)
    if found is not None and found[0].taking is not None:
        take_members(turn, found[0], found[2], message, segments)


def _page_taken(turn: Turn, message: TakenPage, segments: tuple[bytes, ...]) -> None:
    found = _find(turn, message)
    if found is not None:
        take_page(turn, found[0], found[2], message, segments[0])


def _run_taken(turn: Turn, message: RunTaken, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or run.taking is None:
        turn.partition.drop("taken over before")
        return
    for task in all_taken(run, message):
        admit(turn, run, task)


# --- values from elsewhere -----------------------------------------------------------------------


def _value_found(turn: Turn, message: ValueFound, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None or message.key in run.values:
        turn.partition.drop("value known before")
        return
    if message.error is not None:
        refuse_value(turn, run, message.key, message.error)
        return
    told_so = message.is_reference
    value = Value(message.value, is_reference(message.value, run.session_id) if told_so is None else told_so)
    if run.retry_of is None and is_from_outside(run, message.key):
        turn.note_change(run, message.key, "outside", tell(turn, run, message.key, value, ANY_SIZE))
    set_key(turn, run, message.key, value)


def _key_reduced(turn: Turn, message: KeyReduced, segments: tuple[bytes, ...]) -> None:
    run = open_run(turn, message)
    home = take_reduced(turn, run, message) if run is not None else None
    if run is None or home is None:
        turn.partition.drop("key reduced before")
        return
    close_group(turn, run, home)


def _array_counted(turn: Turn, message: ArrayCounted, segments: tuple[bytes, ...]) -> None:
    found = _find(turn, message)
    if found is None or open_run(turn, message) is None:
        return
    run, _, task = found
    if message.error is not None and may_happen(task.state, TaskEvent.EXPANSION_REFUSED):
        refuse_expansion(turn, run, task, message.error)
    elif message.error is None and task.state is TaskState.READY:
        count_members(turn, run, task, message.count)
    else:
        turn.partition.drop("array counted before")


# --- members -------------------------------------------------------------------------------------


def _find(turn: Turn, message: Any) -> tuple[Run, Group, Task] | None:
    run = turn.partition.runs.get(message.run_id)
    group = run.groups.get(message.group) if run else None
    task = group.tasks.get(message.task) if group else None
    if run is None or group is None or task is None:
        turn.partition.drop("message for a run that is not open")
        return None
    return run, group, task


def _find_chunk(turn: Turn, message: Any) -> tuple[Run, Group, Task, Chunk] | None:
    """The chunk of a message, if that is of its present delivery: anything older is a zombie's."""
    found = _find(turn, message)
    chunk = found[2].chunks.get(message.chunk) if found else None
    if found is None or chunk is None or chunk.fence != message.fence:
        turn.partition.drop("message of an earlier delivery")
        return None
    return (*found, chunk)


def _value_page(turn: Turn, message: ValuePage, segments: tuple[bytes, ...]) -> None:
    found = _find_chunk(turn, message)
    if found is not None:
        run, _, task, _ = found
        number = f"{page_prefix(message.chunk, message.fence, message.index)}.{message.page}"
        key = stored_key(task.order, message.key)
        name = turn.rules.names.value_page(run.session_id, run.run_id, key, number)
        turn.put(run, name, segments[0])


def _members_reported(turn: Turn, message: MembersReported, segments: tuple[bytes, ...]) -> None:
    found = _find(turn, message)
    if found is None:
        return
    run, group, task = found
    if is_contested(task, message):
        turn.partition.drop("report of a chunk with two workers")
        give_back(task, task.chunks[message.chunk])
        go_on(turn, run, group, task)
        return
    if not is_news(task, message):
        turn.partition.drop("report of an earlier delivery")
        return
    apply_report(turn, run, task, message, segments)
    keep_inline_or_spill(turn, run, task)
    go_on(turn, run, group, task)


def _chunk_returned(turn: Turn, message: ChunkReturned, segments: tuple[bytes, ...]) -> None:
    found = _find_chunk(turn, message)
    if found is not None:
        run, group, task, chunk = found
        if message.reason == "no_agent":
            park(turn, run, task, chunk)
            note_lack(turn, run, task)
        elif message.reason == "paused" and not run.paused:
            # The worker saw a flag that should be gone: without this the chunk would come back for ever.
            turn.effects.append(Pause(run.run_id, run.session_id, False, run.deadline))
            park(turn, run, task, chunk)
        else:
            give_back(task, chunk)
        go_on(turn, run, group, task)


def _chunk_lost(turn: Turn, message: ChunkLost, segments: tuple[bytes, ...]) -> None:
    found = _find_chunk(turn, message)
    if found is None:
        return
    run, group, task, chunk = found
    if message.cause == "gone":
        worker_gone(turn, run, group, task, chunk, message.worker)
    else:
        chunk_broken(turn, run, task, chunk, message.worker)
    go_on(turn, run, group, task)


# --- time ----------------------------------------------------------------------------------------


def _timer_due(turn: Turn, message: TimerDue, segments: tuple[bytes, ...]) -> None:
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("timer of a run that is not open")
        return
    # The broker's clock decides where it is behind that of the process which appended the record.
    now = min(message.at, turn.at)
    for timer in in_request_order(run, run.timers.pop_due(now)):
        _FIRE[timer.kind](turn, run, timer, now)


def _time_out_group(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    group = run.groups[timer.group]
    if group.announced:  # by the timeout of another group, in this turn
        return
    group.timed_out = True
    turn.effects.append(Halt(run.run_id, run.session_id, "timed_out", group.name, run.admission))
    stop_tasks(turn, run, group.tasks.values(), TaskEvent.TIME_OUT)


def _report_lack(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    report_lack(turn, run, run.groups[timer.group].tasks[timer.task])


def _reoffer(turn: Turn, run: Run, timer: Timer, now: float) -> None:
    group = run.groups[timer.group]
    task = group.tasks[timer.task]
    if not task.is_over and release_due(run, task, now):
        schedule(turn, run, group, task)


_FIRE: dict[TimerKind, Callable[[Turn, Run, Timer, float], None]] = {
    TimerKind.OVERDUE: lambda turn, run, timer, now: ask_about_overdue(turn, run, now),
    TimerKind.GROUP_TIMEOUT: _time_out_group,
    TimerKind.AGENT_MISSING: _report_lack,
    TimerKind.REOFFER: _reoffer,
}


def _nudged(turn: Turn, message: Nudge, segments: tuple[bytes, ...]) -> None:
    """Look again at everything that the run waits for, and tell again what its owner may have missed: whoever gets
    it twice drops it."""
    run = turn.partition.runs.get(message.run_id)
    if run is None:
        turn.partition.drop("nudge of a run that is not open")
        turn.news(turn.rules.names.runs, message.run_id, RunUnknown(run_id=message.run_id))
        return
    turn.effects.append(LookAgain(run.run_id))
    if run.taking is not None:
        take_when_known(turn, run)
    for group in run.groups.values():
        if group.announced:
            tell_end(turn, run, group)
        for task in group.tasks.values():
            if task.state is TaskState.READY:
                turn.effects.append(CountArrays(run.run_id, group.name, task.name))
    for key in run.watched:
        turn.effects.append(Watch(run.run_id, run.session_id, key))
    turn.effects += pending_reductions(run)
    for group in run.groups.values():
        schedule_group(turn, run, group)


_HANDLERS: dict[type[Message], Callable[[Turn, Any, tuple[bytes, ...]], None]] = {
    ClaimPartition: _claimed,
    OpenRun: _open_run,
    StartGroup: _start_group,
    StopRun: _stop_run,
    CheckRun: _check_run,
    Fragment: _fragment,
    PauseRun: _pause_run,
    ReleaseHeld: _release_held,
    ValueFound: _value_found,
    ArrayCounted: _array_counted,
    KeyReduced: _key_reduced,
    ValuePage: _value_page,
    TakenPage: _page_taken,
    MembersTaken: _members_taken,
    RunTaken: _run_taken,
    MembersReported: _members_reported,
    ChunkReturned: _chunk_returned,
    ChunkLost: _chunk_lost,
    TimerDue: _timer_due,
    Nudge: _nudged,
}
