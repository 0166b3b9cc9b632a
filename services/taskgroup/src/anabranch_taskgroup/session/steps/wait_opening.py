"""Begins the waits of a step: counts its members, fills in their placeholders, and has them wait. Pure.

Members wait without a worker, and all at once. If a placeholder names a value in the store, or there are many
members with placeholders, the shell renders them (`RenderWaits`) and appends them to the log page by page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappush
from itertools import groupby
from typing import Any

import orjson

from anabranch.core.expansion.members import Expanded
from anabranch.core.ranges import Spans
from anabranch.core.templates import placeholders
from anabranch.core.waits.rendering import RenderedWait, WaitRenderer, kind_of_wait, placeholders_of
from anabranch_taskgroup.session.conditions import condition_values
from anabranch_taskgroup.session.event_waits import stop_waiting
from anabranch_taskgroup.session.mailboxes import enter
from anabranch_taskgroup.session.merge import is_separate
from anabranch_taskgroup.session.retry_import import emit_imported
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.steps.expansion import (
    expanded_in_memory,
    has_large_array,
    has_members,
)
from anabranch_taskgroup.session.steps.wait_conditions import open_condition
from anabranch_taskgroup.session.steps.wait_endings import close, fail_member, satisfy, time_out, waits_of
from anabranch_taskgroup.session.steps.wait_signals import give_kept
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import CountArrays, RegisterWaits, RenderWaits, Turn
from anabranch_taskgroup.session.wait_state import OpenWaits

MAX_IN_TURN = 10_000
"""Members whose placeholders are filled in within one turn of the owner, and in one record of the shell."""
MAX_SHOWN = 100
"""Events that say what members of one page wait for; the others have one event without a time or a name."""


def begin(turn: Turn, run: Run, task: Task) -> None:
    """Begin a step whose dependencies are there."""
    wait = task.order.wait
    assert wait is not None
    if task.order.expansion is None:
        task.total = 1
        if reads_store(run, task):
            turn.effects.append(RenderWaits(run.run_id, task.group, task.name))
            return
        _start(turn, run, task)
        open_page(turn, run, task, 0, [renderer_of(run, task, values_in_memory(run, task)).only()])
    elif has_large_array(run, task):
        effect = RenderWaits if has_own_waits(task) else CountArrays
        turn.effects.append(effect(run.run_id, task.group, task.name))
    elif (expanded := expanded_in_memory(turn, run, task)) is not None:
        _begin_expanded(turn, run, task, expanded)


def _begin_expanded(turn: Turn, run: Run, task: Task, expanded: Expanded) -> None:
    if not has_own_waits(task):
        begin_alike(turn, run, task, expanded.count)
    elif expanded.count > MAX_IN_TURN or reads_store(run, task):
        turn.effects.append(RenderWaits(run.run_id, task.group, task.name))
    elif has_members(turn, run, task, expanded.count):
        _start(turn, run, task)
        renderer = renderer_of(run, task, values_in_memory(run, task))
        open_page(turn, run, task, 0, list(renderer.of_members(expanded.members())))


def begin_alike(turn: Turn, run: Run, task: Task, count: int) -> None:
    """Begin a step whose members all wait for the same."""
    if has_members(turn, run, task, count):
        _start(turn, run, task)
        rendered = renderer_of(run, task, {}).only()
        _open(turn, run, task, count, [(0, count, rendered)])


def begin_page(turn: Turn, run: Run, task: Task, first: int, total: int, rendered: Sequence[RenderedWait]) -> None:
    """Apply a page that the shell has rendered; the first one says how many members there are."""
    if task.waits is None:
        if task.order.expansion is not None and not has_members(turn, run, task, total):
            return
        _start(turn, run, task)
    open_page(turn, run, task, first, rendered)


def has_own_waits(task: Task) -> bool:
    """True if members differ in what they wait for, or have names of their own."""
    assert task.order.wait is not None
    assert task.order.expansion is not None
    expansion = task.order.expansion
    return bool(placeholders_of(task.order.wait) or expansion.identifiers or expansion.output_format == "separate")


def reads_store(run: Run, task: Task) -> bool:
    """True if a placeholder names a value that only the store has."""
    assert task.order.wait is not None
    named = placeholders_of(task.order.wait)
    return any(
        value.is_reference and any(name == key or name.startswith(f"{key}.") for name in named)
        for key, value in condition_values(run, task).items()
    )


def values_in_memory(run: Run, task: Task) -> dict[str, Any]:
    """The values that placeholders may name and that are no references."""
    values = {key: value.data for key, value in condition_values(run, task).items() if not value.is_reference}
    return {key: run.context[key] for key in task.order.context_keys if key in run.context} | values


def renderer_of(run: Run, task: Task, values: Mapping[str, Any]) -> WaitRenderer:
    """The renderer of a step's waits over the values of its keys."""
    assert task.order.wait is not None
    assert task.began_at is not None
    system = {"run_id": run.run_id, "session_id": run.session_id, "task_name": task.name}
    return WaitRenderer(task.order.wait, task.began_at, values, system, is_named=is_separate(task))


def _start(turn: Turn, run: Run, task: Task) -> None:
    task.state = next_state(task.state, TaskEvent.EXPANDED)
    # No member is ever offered to a worker.
    task.cursor = task.total
    task.waits = OpenWaits()
    if task.imported_total is not None:
        task.waits.ended |= tuple(emit_imported(turn, run, task))


def open_page(turn: Turn, run: Run, task: Task, first: int, rendered: Sequence[RenderedWait]) -> None:
    """Have the members from `first` on wait."""
    _open(turn, run, task, first + len(rendered), _alike(first, rendered))


def _alike(first: int, rendered: Sequence[RenderedWait]) -> list[tuple[int, int, RenderedWait]]:
    """(start, stop, wait) of neighbours that wait for the same."""
    found = []
    for wait, group in groupby(rendered):
        stop = first + sum(1 for _ in group)
        found.append((first, stop, wait))
        first = stop
    return found


def _open(turn: Turn, run: Run, task: Task, opened: int, parts: Sequence[tuple[int, int, RenderedWait]]) -> None:
    waits, wait = waits_of(task), task.order.wait
    assert wait is not None
    assert task.began_at is not None
    first, waits.opened = waits.opened, opened
    timeout_at = None if wait.timeout is None else task.began_at + wait.timeout
    has_own_assignees = wait.approval is not None and bool(placeholders(list(wait.approval.assignees)))
    shown: list[tuple[Spans, RenderedWait]] = []
    for start, stop, rendered in parts:
        for low, high in waits.open_in(start, stop):
            if rendered.error is not None:
                for index in range(low, high):
                    fail_member(turn, run, task, index, "InvalidWait", rendered.error)
                continue
            if rendered.identifier is not None:
                waits.identifiers[low] = rendered.identifier
            due = min((at for at in (rendered.due, timeout_at) if at is not None), default=None)
            if due is not None:
                heappush(waits.dues, (due, low, high))
            if rendered.name is not None:
                heappush(waits.names.setdefault(rendered.name, []), (low, high))
            if rendered.key is not None:
                waits.keys.setdefault(rendered.key, []).append((low, high))
            if rendered.approval is not None and has_own_assignees:
                assignees = orjson.loads(rendered.approval)["assignees"]
                waits.asked |= dict.fromkeys(range(low, high), assignees)
            shown.append((((low, high),), rendered._replace(due=due)))
    _emit_waiting(turn, run, task, shown)
    end_due(turn, run, task, turn.at)
    names = list(dict.fromkeys(rendered.name for _, rendered in shown if rendered.name is not None))
    # Also without names: it marks the run as one that waits, see `idle`.
    enter(run, task, names)
    give_kept(turn, run, names)
    if wait.condition is not None and task.state is TaskState.RUNNING:
        open_condition(turn, run, task)
    if waits.keys:
        turn.effects.append(RegisterWaits(run.run_id, task.group, task.name, first, opened))
    close(turn, run, task)


def _emit_waiting(turn: Turn, run: Run, task: Task, shown: Sequence[tuple[Spans, RenderedWait]]) -> None:
    assert task.order.wait is not None
    kind = kind_of_wait(task.order.wait)
    merged: dict[RenderedWait, list[tuple[int, int]]] = {}
    for spans, rendered in shown:
        like = rendered._replace(identifier=None)
        if len(merged) >= MAX_SHOWN and like not in merged:
            like = RenderedWait()
        merged.setdefault(like, []).extend(spans)
    for rendered, found in merged.items():
        data: dict[str, Any] = {"reason": kind}
        if rendered.due is not None:
            data["until"] = rendered.due
        if rendered.name is not None:
            data["name"] = rendered.name
        if rendered.key is not None:
            event = task.order.wait.event
            data |= {"name": event.name if event is not None else None, "key": rendered.key}
        if rendered.approval is not None:
            data["approval"] = asked_of(task, rendered.approval)
        turn.event(run, "task.waiting", task=task, spans=tuple(sorted(found)), **data)


def asked_of(task: Task, rendered: str) -> dict[str, Any]:
    """What a person who decides is shown and has to know."""
    wait = task.order.wait
    assert wait is not None
    assert wait.approval is not None
    more: dict[str, Any] = {"options": list(wait.approval.options), "required": wait.approval.required}
    if wait.approval.form is not None:
        more["form"] = wait.approval.form
    return {**orjson.loads(rendered), **more}


def end_due(turn: Turn, run: Run, task: Task, now: float) -> None:
    """End the members whose time has come, and set the timer for the next ones."""
    waits, wait = waits_of(task), task.order.wait
    assert wait is not None
    assert task.began_at is not None
    timeout_at = None if wait.timeout is None else task.began_at + wait.timeout
    is_time = kind_of_wait(wait) == "time"
    ended: dict[bool, list[tuple[int, int]]] = {}
    for due, start, stop in waits.pop_due(now):
        has_timed_out = not is_time or (timeout_at is not None and due >= timeout_at)
        ended.setdefault(has_timed_out, []).extend(waits.open_in(start, stop))
    for has_timed_out, found in ended.items():
        if spans := tuple(_joined(sorted(found))):
            if has_timed_out:
                if waits.keys:
                    for start, stop in spans:
                        stop_waiting(turn, run, task, start, stop)
                time_out(turn, run, task, spans)
            else:
                satisfy(turn, run, task, spans, b"null", "time")
    if waits.dues:
        run.timers.schedule(Timer(TimerKind.WAIT, task.group, task.name), waits.dues[0][0])


def _joined(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Disjoint ascending spans, with neighbours as one."""
    start = stop = -1
    for low, high in spans:
        if low == stop:
            stop = high
            continue
        if stop > start:
            yield start, stop
        start, stop = low, high
    if stop > start:
        yield start, stop
