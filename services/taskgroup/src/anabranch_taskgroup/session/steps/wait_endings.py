"""Ends members that wait, each once, and joins their step with the last of them. Pure.

A member ends by the first record that says so: its signal, its time, a decision. `OpenWaits.ended` has the members
that have ended, so a later record finds none.
"""

from __future__ import annotations

from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.ranges import Spans
from anabranch.core.wire.messages import MemberFailed
from anabranch_taskgroup.session.dead_letters import fail_without_attempt
from anabranch_taskgroup.session.endings import end
from anabranch_taskgroup.session.merge import is_separate, keep_results, spill_if_large
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState
from anabranch_taskgroup.session.steps.joins import close_if_ended
from anabranch_taskgroup.session.task_state import Skip, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.wait_state import MAX_KEPT_BYTES, OpenWaits


def waits_of(task: Task) -> OpenWaits:
    """The waits of a step of kind `wait` that has begun."""
    assert task.waits is not None
    return task.waits


def satisfy(turn: Turn, run: Run, task: Task, spans: Spans, data: bytes, ended_by: str, **more: Any) -> None:
    """Members end with a value, which is JSON; `more` are further fields of the event."""
    waits = waits_of(task)
    waits.ended |= spans
    count = sum(stop - start for start, stop in spans)
    task.ended += count
    packed = b"[" + b",".join([data] * count) + b"]"
    keys = len(task.order.result_keys)
    segments = [packed] * keys
    if is_separate(task):
        indexes = [index for start, stop in spans for index in range(start, stop)]
        segments.append(dumps([waits.identifiers.pop(index, str(index)) for index in indexes]))
    items = len(orjson.loads(data)) if data.startswith(b"[") else 1
    keep_results(task, spans, tuple(segments), (items * count,) * keys)
    turn.event(run, "task.completed", task=task, spans=spans, ended_by=ended_by, **more)
    spill_if_large(turn, run, task)


def fail_member(turn: Turn, run: Run, task: Task, index: int, error_type: str, message: str, **more: Any) -> None:
    """A member fails for good."""
    waits_of(task).ended.add(index)
    failed = MemberFailed(index=index, error_type=error_type, message=message, attempts=1)
    fail_without_attempt(turn, run, task, failed, **more)


def collect(turn: Turn, run: Run, task: Task, index: int, count: int, data: bytes) -> bytes | None:
    """Add a payload to those of a member that waits for `count` of them; returns the array of all once they are
    there. The member fails if they are too large: until then they are part of the owner's state."""
    waits = waits_of(task)
    collected = waits.collected.setdefault(index, [])
    collected.append(data)
    waits.collected_bytes += len(data)
    if waits.collected_bytes > MAX_KEPT_BYTES:
        del waits.collected[index]
        message = f"the payloads that {task.group}/{task.name} has collected have over {MAX_KEPT_BYTES:,} bytes"
        fail_member(turn, run, task, index, "ResultError", message)
        return None
    return None if len(collected) < count else b"[" + b",".join(waits.collected.pop(index)) + b"]"


def skip(turn: Turn, run: Run, task: Task, spans: Spans, ended_by: str) -> None:
    """Members end without a value and without a failure. An ordinary step is skipped with its only member."""
    waits = waits_of(task)
    waits.ended |= spans
    if task.order.expansion is None:
        because = Skip("wait", f"its wait ended by {ended_by}")
        end(turn, run, task, TaskEvent.WAIT_SKIPPED, skip=because, ended_by=ended_by)
        return
    count = sum(stop - start for start, stop in spans)
    waits.skipped += count
    task.ended += count
    turn.event(run, "task.skipped", task=task, spans=spans, ended_by=ended_by)


def time_out(turn: Turn, run: Run, task: Task, spans: Spans) -> None:
    """The timeout of members is over: they end as `on_timeout` says."""
    wait = task.order.wait
    assert wait is not None
    if wait.on_timeout == "value":
        satisfy(turn, run, task, spans, dumps(wait.value), "timeout")
    elif wait.on_timeout == "skip":
        skip(turn, run, task, spans, "timeout")
    else:
        message = f"the wait has not ended within its timeout of {wait.timeout:g} s"
        for start, stop in spans:
            for index in range(start, stop):
                fail_member(turn, run, task, index, "WaitTimeout", message, ended_by="timeout")


def close(turn: Turn, run: Run, task: Task) -> None:
    """Join the step if each of its members has ended."""
    if task.state is TaskState.RUNNING:
        close_if_ended(turn, run, task)
