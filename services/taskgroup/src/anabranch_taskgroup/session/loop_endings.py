"""Ends a loop: its result keys have the values of the last iteration, or lists of all of them. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.json_documents import dumps
from anabranch_taskgroup.session.endings import complete, fail
from anabranch_taskgroup.session.keys import scope_of, set_key
from anabranch_taskgroup.session.loop_collecting import collected_list, exported_keys
from anabranch_taskgroup.session.merge import Joined
from anabranch_taskgroup.session.state import Absent, Run, Value
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.store_keys import key_of_reference, stored_of
from anabranch_taskgroup.session.task_state import EndedBy, LoopState, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import reference_to

EXHAUSTED = "LoopExhausted"


def conclude(turn: Turn, step: Step, by: EndedBy) -> None:
    """Complete a loop, with the values of its result keys."""
    run, group, task = step
    loop = _loop(task)
    loop.ended_by = by
    summary: dict[str, Any] = {"iterations": loop.number, "ended_by": by}
    exported = exported_keys(group, task)
    joined = [Joined(key, summary) for key in task.order.result_keys if key not in exported]
    scope = scope_of(run, task)
    for key in exported:
        found = _exported(turn, run, task, key)
        if found is not None:
            joined.append(found)
        elif key not in task.order.shares:
            set_key(turn, run, scope, key, Absent(f"no value in the last iteration of {task.group}/{task.name}"))
    turn.event(run, "task.completed", task=task, **summary)
    complete(turn, run, task, TaskEvent.LOOP_DONE, joined)


def exhaust(turn: Turn, step: Step, by: EndedBy) -> None:
    """A limit of the loop is reached: it fails, or completes, as its `on_limit` says."""
    spec = step.task.order.loop
    assert spec is not None
    if spec.on_limit == "complete":
        conclude(turn, step, by)
        return
    _loop(step.task).ended_by = by
    reached = f"its {spec.limit:,} iterations" if by == "limit" else f"its {spec.max_duration:g} s"
    message = f"the loop has used up {reached} before its end ({_end_of(step.task)}), and on_limit says fail"
    fail_loop(turn, step, EXHAUSTED, message)


def _end_of(task: Task) -> str:
    spec = task.order.loop
    assert spec is not None
    if spec.each is not None:
        return "its last item"
    return "`until` was false" if spec.until is not None else "`while` was true"


def fail_loop(turn: Turn, step: Step, error_type: str, message: str) -> None:
    """Fail a loop for a reason of its own."""
    fail(turn, step.run, step.task, TaskEvent.LOOP_BROKEN, error_type, message)


def fail_with_body(turn: Turn, step: Step, broken: Task) -> None:
    """Fail a loop because a task of its running iteration has failed."""
    task = step.task
    loop = _loop(task)
    loop.is_broken = True
    first = broken.failed[min(broken.failed)] if broken.failed else None
    error_type = "IterationFailed" if first is None else first.error_type
    why = broken.state.lower() if first is None else first.message
    fail_loop(turn, step, error_type, f"iteration {loop.number} failed: {broken.group}/{broken.name}: {why}")


def _exported(turn: Turn, run: Run, task: Task, key: str) -> Joined | None:
    loop, spec = _loop(task), task.order.loop
    assert spec is not None
    if spec.collect == "none":
        return None
    if spec.collect == "append":
        return collected_list(turn, run, task, key)
    found = loop.state[key] if key in loop.state else loop.last.get(key)
    if found is None:
        return None
    if found.is_reference and task.order.in_loop is None:
        return Joined(key, _renamed(turn, run, task, key, found), is_reference=True)
    return Joined(key, found.data, found.is_reference)


def _renamed(turn: Turn, run: Run, task: Task, key: str, value: Value) -> object:
    """A reference to the value of an iteration by the key of the loop, as others know it."""
    stored, data = stored_of(task, key), value.data
    manifest = {"format": "same", "of": key_of_reference(data), "count": data["count"], "bytes": data["bytes"]}
    turn.put(run, turn.config.names.value_manifest(run.session_id, run.run_id, stored), dumps(manifest))
    return reference_to(run, stored, data["count"], data["bytes"])


def _loop(task: Task) -> LoopState:
    assert task.loop is not None
    return task.loop
