"""From a step's dependencies to its begin, and how a step is stopped. Pure.

What one ending releases is decided in the same turn, by a queue and not by recursion: a chain of ten thousand
steps that one failure skips needs no deeper stack than one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anabranch.core.wire.messages import ConditionJudged
from anabranch_taskgroup.session.budgets import is_exhausted
from anabranch_taskgroup.session.conditions import WHEN, Judgement, judge
from anabranch_taskgroup.session.early_decisions import decision_of, shortfall_of
from anabranch_taskgroup.session.endings import end, fail
from anabranch_taskgroup.session.forks import complete_taken
from anabranch_taskgroup.session.groups import close_group
from anabranch_taskgroup.session.halts import halt_of_task
from anabranch_taskgroup.session.keys import lookup_of, scope_with, set_key
from anabranch_taskgroup.session.loop_bodies import all_within
from anabranch_taskgroup.session.phase_limits import limit_task
from anabranch_taskgroup.session.skips import absent_need, other_branch
from anabranch_taskgroup.session.starving import start_starved
from anabranch_taskgroup.session.state import Absent, Group, Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState
from anabranch_taskgroup.session.steps.joins import advance
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.steps.wait_conditions import note_change
from anabranch_taskgroup.session.task_state import LoopPhase, Skip, Task
from anabranch_taskgroup.session.turn import Halt, Turn, Watch


def admit(turn: Turn, run: Run, task: Task) -> None:
    """Admit a new step: wait for its dependencies, or begin it where all are there."""
    if run.stopped and (run.terminated or not run.groups[task.group].is_ending):
        end(turn, run, task, TaskEvent.TIME_OUT if run.stopped == "timed_out" else TaskEvent.CANCEL)
        return
    if turn.undecided:
        # A step before it, which this record admitted as well, may have decided the group.
        _decide_groups(turn)
    if task.state is not TaskState.WAITING:
        return
    if run.groups[task.group].decided is not None:
        end(turn, run, task, TaskEvent.CANCEL, because=GROUP_DECIDED)
        return
    if task.order.needs:
        _await_needs(turn, run, task)
    _begin_or_skip(turn, run, task)


def _await_needs(turn: Turn, run: Run, task: Task) -> None:
    # Most tasks are in no loop: no call for each of their keys.
    is_plain = task.order.in_loop is None
    look_up = run.values.get if is_plain else lookup_of(run, task)
    for need in task.order.needs:
        if look_up(need.key) is not None:
            continue
        if need.kind == "absent":
            # Not by `set_key`: the key is absent for each step that needs it, so none waits for it.
            run.values[need.key] = Absent("no task produces it")
            continue
        task.missing.add(need.key)
        scope = run if is_plain else scope_with(run, task, need.key)
        scope.waiters.setdefault(need.key, []).append(task)
        if need.kind == "external":
            run.from_outside.add(need.key)
        if need.kind in ("external", "session") and need.key not in run.watched:
            run.watched.add(need.key)
            turn.effects.append(Watch(run.run_id, run.session_id, need.key))


def _begin_or_skip(turn: Turn, run: Run, task: Task) -> None:
    """Skip a step as soon as its branch is not chosen, or a required key is absent. Once all keys are known,
    evaluate its condition, and begin it."""
    order = task.order
    if order.branch is not None and (skip := other_branch(run, task)) is not None:
        end(turn, run, task, TaskEvent.BRANCH_NOT_TAKEN, skip=skip)
        return
    look_up = run.values.get if order.in_loop is None else lookup_of(run, task)
    for need in order.needs:
        if need.optional and not need.unless_failed:
            continue
        absence = look_up(need.key)
        if isinstance(absence, Absent) and (absence.by_failure or not need.optional):
            end(turn, run, task, TaskEvent.DEPENDENCY_ABSENT, skip=absent_need(need, absence))
            return
    if task.missing:
        return
    if task.taken is not None:
        # Before its condition, which was true in the run that this one is a fork of.
        complete_taken(turn, run, task)
        return
    if order.when is not None:
        if (found := judge(turn, run, task, WHEN)) is not None:
            _begin_if_true(turn, run, task, found)
        return
    # As `_begin`, without a further call for each step.
    group = run.groups[task.group]
    if run.has_budgets and order.kind == "wait" and is_exhausted(run, group):
        end(turn, run, task, TaskEvent.CANCEL, because=OUT_OF_BUDGET)
        return
    kind_of(task).begin(turn, Step(run, group, task))
    if group.is_ending:
        limit_task(turn, run, group, task)


def _begin(turn: Turn, run: Run, task: Task) -> None:
    group = run.groups[task.group]
    kind_of(task).begin(turn, Step(run, group, task))
    if group.is_ending:
        limit_task(turn, run, group, task)


def _begin_if_true(turn: Turn, run: Run, task: Task, found: Judgement) -> None:
    if found.error is not None:
        fail(turn, run, task, TaskEvent.CONDITION_REFUSED, "ConditionError", found.error)
    elif found.case < 0:
        end(turn, run, task, TaskEvent.CONDITION_FALSE, skip=Skip("condition", found.because))
    else:
        _begin(turn, run, task)


def take_judgement(turn: Turn, step: Step, message: ConditionJudged) -> None:
    """The shell has evaluated conditions of a step whose values are in the store: the first answer counts."""
    run, _, task = step
    # A new owner evaluates again, so the answer may be on the log twice.
    if task.is_over or task.judging != message.purpose or task.iteration != message.iteration:
        turn.partition.drop("condition evaluated before")
        return
    task.judging = None
    found = Judgement(message.case, message.because, message.error)
    if message.purpose == WHEN:
        _begin_if_true(turn, run, task, found)
    else:
        kind_of(task).on_judgement(turn, step, message.purpose, found)


def settle(turn: Turn) -> None:
    """Begin or skip the steps that waited for keys which became known, until no further key becomes known; decide
    the groups that one of their tasks decides."""
    while (
        turn.known
        or turn.undecided
        or turn.doubtful
        or turn.admitting
        or turn.iterated
        or turn.stopping
        or turn.waking
        or turn.exhausted
        or turn.advancing
    ):
        if turn.undecided:
            # Before any key: the winner of a group cancels the steps that would wait for it.
            _decide_groups(turn)
        elif turn.known:
            _release_waiters(turn)
        elif turn.stopping:
            _stop_iteration(turn, *turn.stopping.pop(0), ITERATION_STOPPED)
        elif turn.admitting:
            admit(turn, *turn.admitting.pop(0))
        elif turn.iterated:
            step = Step(*turn.iterated.pop(0))
            if not step.task.is_over:
                kind_of(step.task).body_ended(turn, step)
        elif turn.advancing:
            advance(turn, *turn.advancing.pop(0))
        elif turn.exhausted:
            _end_waits(turn, *turn.exhausted.pop(0))
        elif turn.waking:
            start_starved(turn, turn.waking.pop(0))
        else:
            # Last: a whole group that is skipped needs no completed task.
            _fail_if_short(turn, *turn.doubtful.pop(0))


def _release_waiters(turn: Turn) -> None:
    run, scope, key = turn.known.pop(0)
    if run.conditions and isinstance(value := scope.values[key], Value):
        note_change(turn, run, scope, key, value)
    for task in scope.waiters.pop(key, ()):
        task.missing.discard(key)
        if task.state is not TaskState.WAITING:
            continue
        branch = task.order.branch
        # A step looks at all its needs: only with its last key, its branch, or an absent key, not at each of
        # thousands.
        if not task.missing or isinstance(scope.values[key], Absent) or (branch is not None and branch.key == key):
            _begin_or_skip(turn, run, task)


GROUP_DECIDED = "another task has decided the group"


def _decide_groups(turn: Turn) -> None:
    """Cancel the other tasks of each group that a task which ended has decided."""
    while turn.undecided:
        run, group, task = turn.undecided.pop(0)
        if group.decided is not None or group.is_reported:
            continue
        if task.order.in_loop is not None:
            _decide_iteration(turn, run, group, task)
            continue
        status = decision_of(group, task)
        if status is not None:
            group.decided = status
            _cancel_others(turn, run, group, f"{task.name} {task.state.lower()} and decided the group")
        elif group.need is not None:
            turn.doubtful.append((run, group, None))


def _decide_iteration(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """The same for an iteration, of which the task is one."""
    step = group.tasks[task.order.in_loop or ""]
    if not _is_undecided(step):
        return
    assert step.loop is not None
    status = decision_of(group, task)
    if status is not None:
        step.loop.decided = status
        _stop_iteration(turn, run, group, step, f"{task.name} {task.state.lower()} and decided the iteration")
    elif group.need is not None:
        turn.doubtful.append((run, group, step))


def _is_undecided(step: Task) -> bool:
    loop = step.loop
    return loop is not None and loop.phase is LoopPhase.RUNNING and loop.decided is None


def _fail_if_short(turn: Turn, run: Run, group: Group, step: Task | None) -> None:
    """Fail a group, or the iteration of a loop, as soon as too few of its tasks are left to reach the number that
    it needs."""
    if step is not None:
        if _is_undecided(step) and (failure := shortfall_of(group, step)) is not None:
            _stop_iteration(turn, run, group, step, failure.message)
        return
    if group.decided is not None or group.is_reported or not group.is_known:
        return
    if (failure := shortfall_of(group)) is not None:
        group.decided = "failed"
        group.conflicts.append(failure)
        _cancel_others(turn, run, group, failure.message)


def _cancel_others(turn: Turn, run: Run, group: Group, because: str) -> None:
    if group.unfinished:
        turn.effects.append(Halt(run.run_id, run.session_id, "cancelled", group.name, run.admission))
        stop_steps(turn, run, group, TaskEvent.CANCEL, because=because)
    # Its keys with a policy may still wait for tasks of other groups.
    close_group(turn, run, group)


def refuse_value(turn: Turn, run: Run, key: str, reason: str) -> None:
    """A key from outside has no usable value: steps that require it fail, for others it is absent."""
    message = f"the value of {key!r}, which came from outside the run, cannot be used: {reason}"
    # Before the key is absent, which would skip these steps instead of failing them.
    for task in list(run.waiters.get(key, ())):
        is_required = any(need.key == key and not need.optional for need in task.order.needs)
        if is_required and task.state is TaskState.WAITING:
            fail(turn, run, task, TaskEvent.DEPENDENCY_REFUSED, "InvalidValue", message)
    set_key(turn, run, run, key, Absent(message))


def stop_steps(turn: Turn, run: Run, group: Group, event: TaskEvent, **data: Any) -> None:
    """End each step of a group that has not ended; values of its completed members are kept for the report. `data`
    is what their lifecycle events say besides."""
    for task in _open(group.tasks.values()):
        if task.is_open and not kind_of(task).lingers(turn, Step(run, group, task), event):
            kind_of(task).cancel(turn, Step(run, group, task))
            end(turn, run, task, event, **data)


def _stop_iteration(turn: Turn, run: Run, group: Group, loop: Task, because: str) -> None:
    """Cancel the tasks of a loop's running iteration."""
    for task in _open(all_within(group, loop)):
        if task.is_open and not kind_of(task).lingers(turn, Step(run, group, task), TaskEvent.CANCEL):
            if task.chunks:
                turn.effects.append(halt_of_task(run, task))
            kind_of(task).cancel(turn, Step(run, group, task))
            end(turn, run, task, TaskEvent.CANCEL, because=because)


ITERATION_STOPPED = "the iteration of its loop was stopped"


def _end_waits(turn: Turn, run: Run, only: Group | None) -> None:
    """A budget is exceeded: members that run go on to their end, but nobody waits for an event or a person any
    more, since nothing could follow."""
    for group in list(run.groups.values()) if only is None else [only]:
        for task in [] if group.is_ending else _open(group.tasks.values()):
            if task.order.kind == "wait" and task.is_open and task.state is not TaskState.WAITING:
                kind_of(task).cancel(turn, Step(run, group, task))
                end(turn, run, task, TaskEvent.CANCEL, because=OUT_OF_BUDGET)


OUT_OF_BUDGET = "a budget of the run is used up"


def _open(tasks: Iterable[Task]) -> list[Task]:
    """A copy: the end of one step may end others, or close the group."""
    return [task for task in tasks if task.is_open]
