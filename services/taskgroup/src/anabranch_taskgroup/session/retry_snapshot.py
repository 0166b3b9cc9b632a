"""Stores the outcomes of a run that did not complete, for its retry: how each member ended, and its results. Pure.

`owner.retry_import` appends them to the log of the retry, and `retry_import` applies them there. There is one
document for each task. It contains small results as the workers packed them, and names the pages of larger ones,
which are in the store anyway. It expires a minute before they do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.names import outcome_name
from anabranch.core.wire.messages import Failure, Json, Need, TaskOrder
from anabranch.core.wire.results import is_reference
from anabranch.runtime.ownership.effects import StorePut
from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.phase_table import COMPENSATE
from anabranch_taskgroup.session.retry_loops import loop_document
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

AHEAD_SECONDS = 60.0
"""An outcome expires so much earlier than the pages it names: they are still there while it is read."""

TaskId = tuple[str, str]
"""Group and task."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How the members of one task ended.

    `parts` are [spans, items, values of each result key, identifiers or null], `pages` are [number, spans, bytes,
    items], `large` are [index, key, prefix, bytes of each page, items or null], `identifiers` those of the pages.
    `failed` has the failed members of a task that completed; those of any other task run again.
    """

    completed: bool
    total: int
    unseen: Sequence[str]
    parts: Sequence[Sequence[Any]]
    pages: Sequence[Sequence[Any]]
    large: Sequence[Sequence[Any]]
    identifiers: Mapping[str, str]
    failed: Sequence[Mapping[str, Any]]
    loop: Mapping[str, Any] | None = None
    """What a retry needs of a loop, see `retry_loops.loop_document`."""


def store_outcomes(turn: Turn, run: Run) -> None:
    """Store the outcomes that a retry can import, at the end of a run."""
    names = turn.config.names
    ttl = max(1.0, turn.config.result_ttl - AHEAD_SECONDS)
    undone = undone_tasks(run) if run.phases else ()
    # The groups of the end run again, after a retry as after its first run.
    for group in [group for group in run.groups.values() if not group.is_ending]:
        for task in group.tasks.values():
            if (group.name, task.name) in undone:
                continue
            # A loop has what a retry needs of its body.
            if task.order.in_loop is None and _has_outcome(task):
                key = names.outcome(run.session_id, run.run_id, group.name, task.name)
                turn.effects.append(StorePut(run.session_id, key, dumps(outcome_of(run, task)), ttl))
    key = names.outcome(run.session_id, run.run_id)
    turn.effects.append(StorePut(run.session_id, key, dumps(outside_values(run)), ttl))


def undone_tasks(run: Run) -> set[tuple[str, str]]:
    """(group, task) of the tasks whose compensation has begun: a retry runs them again."""
    group = run.groups.get(COMPENSATE)
    tasks = group.tasks.values() if group is not None else ()
    return {(task.order.undoes.group, task.order.undoes.task) for task in tasks if task.order.undoes is not None}


def _has_outcome(task: Task) -> bool:
    has_members = bool(task.completed) or bool(task.failed and task.state is TaskState.COMPLETED)
    return has_members or task.loop is not None


def outcome_of(run: Run, task: Task) -> dict[str, Any]:
    """The document of a task's outcome; `read_outcome` reads it."""
    completed = task.state is TaskState.COMPLETED
    return {
        "completed": completed,
        "total": task.total,
        "unseen": sorted(task.unseen | _without_value(run, task)),
        "parts": [
            # Fragments are copied into the document without being decoded.
            [part.spans, part.items, list(map(orjson.Fragment, part.segments)), _fragment(part.identifiers)]
            for part in task.packed
        ],
        "pages": [[page.number, page.spans, page.sizes, page.items] for page in task.pages],
        "large": [[each.index, each.key, each.prefix, each.sizes, each.items] for each in task.large],
        "identifiers": {str(index): name for index, name in task.identifiers.items()},
        "failed": [_failed(index, each) for index, each in task.failed.items()] if completed else [],
        "loop": loop_document(task),
    }


def read_outcome(data: bytes) -> TaskOutcome:
    """Reads the document that `outcome_of` made."""
    return TaskOutcome(**orjson.loads(data))


def _without_value(run: Run, task: Task) -> set[str]:
    look_up = lookup_of(run, task)
    # The ends of other tasks are no values: a retry waits for them again.
    needs = [need for need in task.order.needs if need.kind != "task"]
    return {need.key for need in needs if not isinstance(look_up(need.key), Value)}


def _fragment(data: bytes) -> orjson.Fragment | None:
    return orjson.Fragment(data) if data else None


def _failed(index: int, failure: Failure) -> dict[str, Any]:
    document = {
        "index": index,
        "error_type": failure.error_type,
        "message": failure.message,
        "attempts": failure.attempts,
    }
    return document if failure.traceback is None else document | {"traceback": failure.traceback}


def outside_values(run: Run) -> dict[str, Any]:
    """The document of the values from outside the run that its tasks saw, so that the retry sees the same ones.
    `references` are the keys of those that are stored. `read_outside` reads it."""
    found: dict[str, Value] = {}
    for group in run.groups.values():
        for task in group.tasks.values():
            for need in task.order.needs:
                value = run.values.get(need.key)
                if need.kind in ("session", "external") and isinstance(value, Value):
                    found[need.key] = value
    return {
        "values": {key: value.data for key, value in found.items()},
        "references": [key for key, value in found.items() if value.is_reference],
    }


def read_outside(data: bytes, session_id: str) -> dict[str, Value]:
    """Reads the document that `outside_values` made. One of an earlier release does not name the references:
    there, a value is one if it refers to a value of the session."""
    document = orjson.loads(data)
    named = document.get("references")
    return {
        key: Value(value, is_reference(value, session_id) if named is None else key in named)
        for key, value in document["values"].items()
    }


def usable(
    orders: Mapping[TaskId, TaskOrder], outcomes: Mapping[TaskId, TaskOutcome], outside: Mapping[str, Json]
) -> set[TaskId]:
    """The tasks whose outcomes may be imported: all values that their members saw are the same in the retry.

    A task with a dependency that is produced again is left out: it would mix results of two inputs.
    """
    producers: dict[str, list[TaskId]] = {}
    for place, order in orders.items():
        if order.in_loop is not None:  # others see the keys of its loop
            continue
        keys = (*order.result_keys, order.error_key, outcome_name(*place))
        for key in keys if order.error_key is not None or order.announces else order.result_keys:
            producers.setdefault(key or "", []).append(place)

    def has_same_inputs(place: TaskId, unseen: Collection[str], taken: set[TaskId]) -> bool:
        return all(need.key in unseen or is_same(need, taken) for need in orders[place].needs)

    def is_same(need: Need, taken: set[TaskId]) -> bool:
        if need.kind in ("session", "external"):
            return need.key in outside
        if need.kind == "produced":
            found = [each in taken and outcomes[each].completed for each in producers[need.key]]
            # Of several producers of a key without a policy, one has completed, and the others have not run.
            has_policy = any(need.key in orders[each].shares for each in producers[need.key])
            return all(found) if has_policy else any(found)
        return need.kind in ("context", "absent") or need.optional or ends_alike(need, taken)

    def ends_alike(need: Need, taken: set[TaskId]) -> bool:
        """True if the task that is waited for has the outcome that it had: a switch is evaluated again, over the
        same values."""
        [place] = producers[need.key]
        if orders[place].kind == "switch":
            return has_same_inputs(place, (), taken)
        return place in taken and outcomes[place].completed

    taken = set(outcomes)
    # Repeated, because each task that is left out makes the ones stale that depend on it.
    while stale := [place for place in taken if not has_same_inputs(place, outcomes[place].unseen, taken)]:
        taken.difference_update(stale)
    return taken


def pages_of(outcome: TaskOutcome, order: TaskOrder) -> Iterator[tuple[str, str]]:
    """(key, page) of each page that the outcome names in the store."""
    for number, *_ in outcome.pages:
        for key in order.result_keys:
            yield stored_key(order, key), str(number)
    for _, key, prefix, sizes, _ in outcome.large:
        for number in range(len(sizes)):
            yield stored_key(order, key), f"{prefix}.{number}"
    for key, (pages, *_) in outcome.loop["collected"].items() if outcome.loop is not None else ():
        for number in range(len(pages)):
            yield stored_key(order, key), str(number)
