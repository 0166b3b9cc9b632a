"""The tasks of loop bodies: they are dormant until an iteration starts, and each iteration has tasks of its own.

Pure. The numbers of chunks go on from one iteration to the next, so messages about chunks of an earlier iteration
are stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from anabranch.core.names import outcome_name
from anabranch.core.wire.messages import Counts, TaskOrder
from anabranch_taskgroup.session.dead_letters import release_traceback, write_omitted_dead_letter
from anabranch_taskgroup.session.keys import scope_with
from anabranch_taskgroup.session.spending import costs_of
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.task_state import WITHOUT_MEMBERS, LoopPhase, Skip, Task
from anabranch_taskgroup.session.turn import Turn


def body_of(group: Group, loop: Task) -> list[Task]:
    """The tasks that a loop repeats, without those of inner loops, in the order of the request."""
    return [task for task in group.tasks.values() if task.order.in_loop == loop.name]


def all_within(group: Group, loop: Task) -> Iterator[Task]:
    """The tasks that a loop repeats, each inner loop before its body."""
    for task in body_of(group, loop):
        yield task
        if task.order.kind == "loop":
            yield from all_within(group, task)


def renew_body(run: Run, group: Group, loop: Task, iteration: tuple[int, ...]) -> list[Task]:
    """Put new tasks in the place of those of the iteration before; returns those that the iteration has, without
    those of inner loops."""
    started: list[Task] = []
    for old in list(all_within(group, loop)):
        _forget(run, old)
        new = Task(
            old.order,
            old.group,
            old.first_fence,
            iteration=iteration,
            state=TaskState.WAITING if old.order.in_loop == loop.name else TaskState.DORMANT,
            chunk_count=old.chunk_count,
            first_chunk=old.chunk_count,
            # The limit of dead letters counts all iterations.
            dead_letters=old.dead_letters,
            omitted_dead_letters=old.omitted_dead_letters,
            # What it has used is that of all iterations.
            nanos=old.nanos,
            tokens=old.tokens,
            micros=old.micros,
            repeated=costs_of(old).executions,
            budget=old.budget,
            charged=old.charged,
            priced=old.priced + old.ended - old.cached,
        )
        group.tasks[new.name] = new
        if new.order.announces:
            run.producers[outcome_name(group.name, new.name)] = new
        if new.state is TaskState.WAITING:
            started.append(new)
    return started


def _forget(run: Run, task: Task) -> None:
    for failure in task.failed.values():
        release_traceback(run, task, failure.traceback)
    # A task that was skipped may still be among those that wait for a key from outside of the loop.
    for key in task.missing:
        waiters = scope_with(run, task, key).waiters
        left = [each for each in waiters.get(key, ()) if each is not task]
        if left:
            waiters[key] = left
        else:
            waiters.pop(key, None)


def produced_by(body: list[Task]) -> dict[str, int]:
    """By key that the tasks of a body set: how many of them do."""
    return dict(Counter(key for task in body for key in _keys_of(task.group, task.order)))


def _keys_of(group: str, order: TaskOrder) -> set[str]:
    keys = set(order.result_keys)
    if order.error_key is not None:
        keys.add(order.error_key)
    if order.announces:
        keys.add(outcome_name(group, order.name))
    return keys


def leave_iteration(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """A task of a loop body has ended. `lifecycle.settle` tells the loop if it was the last one."""
    loop = group.tasks[task.order.in_loop or ""]
    assert loop.loop is not None
    loop.loop.open -= 1
    if not loop.loop.open:
        turn.iterated.append((run, group, loop))


_WITH_LOOP = {TaskState.CANCELLED: TaskEvent.CANCEL, TaskState.TIMED_OUT: TaskEvent.TIME_OUT}


def release_body(turn: Turn, run: Run, group: Group, loop: Task) -> None:
    """A loop has ended: end its tasks that no iteration has started. No key of theirs is known outside."""
    event = _WITH_LOOP.get(loop.state, TaskEvent.NOT_REPEATED)
    for task in all_within(group, loop):
        if loop.loop is not None and loop.loop.is_taken:
            # It ran in the run before, so nobody says that it was skipped.
            task.state = next_state(task.state, event)
            continue
        if task.state is TaskState.DORMANT:
            task.state = next_state(task.state, event)
            kind = "task.skipped" if event is TaskEvent.NOT_REPEATED else "task.cancelled"
            skip = loop.skip or Skip("condition", _why_not(loop))
            turn.event(run, kind, task=task, reason=skip.reason, because=skip.because)
            if event is TaskEvent.NOT_REPEATED:
                task.skip = skip
        if task.omitted_dead_letters and loop.order.in_loop is None:
            write_omitted_dead_letter(turn, run, task)


def _why_not(loop: Task) -> str:
    return f"its loop {loop.group}/{loop.name} {loop.state.lower()} without an iteration"


def counts_of(group: Group, loop: str | None = None) -> Counts:
    """The members of the tasks of a loop's body by outcome, without a loop those of a group that are in no body;
    of a loop among them, the members of all its iterations."""
    total = completed = failed = skipped = 0
    loops: list[Task] = []
    for task in group.tasks.values():
        if task.order.in_loop != loop:
            continue
        if task.order.kind in WITHOUT_MEMBERS:
            if task.order.kind == "loop":
                loops.append(task)
            continue
        # A step that ended before its members were counted is one of its kind: skipped, or failed as a whole.
        members = max(task.total, 1) if task.state is not TaskState.COMPLETED else task.total
        ended_well, ended_badly = len(task.completed), len(task.failed)
        # Index -1 is the failure of the task as a whole: it counts only if there is no member to count.
        if task.total and -1 in task.failed:
            ended_badly -= 1
        total += members
        completed += ended_well
        failed += ended_badly
        skipped += max(0, members - ended_well - ended_badly)
    counts = Counts(total=total, completed=completed, failed=failed, skipped=skipped)
    for inner in loops:
        counts += _counts_of_loop(group, inner)
    return counts


def _counts_of_loop(group: Group, task: Task) -> Counts:
    loop = task.loop
    if loop is None:
        return counts_of(group, task.name)
    # The last iteration is not among those that were committed if it failed or was stopped.
    is_open = loop.phase in (LoopPhase.RUNNING, LoopPhase.ENDING)
    return loop.counts + counts_of(group, task.name) if is_open else loop.counts
