"""A loop in the retry of its run: it goes on at the iteration that failed, with the state that it had there. Pure.

The tasks of that iteration run again, all of them. The outcome of a loop has its number, its states, the values
of the last iteration, and its collected values; `owner.retry_loops` appends these to the log of the retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from anabranch.core.wire.messages import LoopTaken
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import in_iteration, stored_of
from anabranch_taskgroup.session.task_state import Collected, LoopState, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import as_published


def loop_document(task: Task) -> dict[str, Any] | None:
    """What a retry needs of a loop. Values are [data, whether it is a reference], `collected` are [parts of each
    page, further parts, bytes of all values] by key.

    None for a task that is no loop, and for a loop that a fork took over: it runs again in a retry of the fork.
    """
    loop = task.loop
    if loop is None or loop.is_taken:
        return None
    return {
        "number": loop.number,
        "ended_by": loop.ended_by if task.state is TaskState.COMPLETED else None,
        "counts": loop.counts.model_dump(mode="json"),
        "state": {key: [value.data, value.is_reference] for key, value in loop.state.items()},
        "last": {key: [value.data, value.is_reference] for key, value in loop.last.items()},
        "collected": {
            key: [[parts for parts, _ in each.pages], orjson.Fragment(b"[%s]" % each.pending), each.size]
            for key, each in loop.collected.items()
        },
    }


def import_loop(turn: Turn, run: Run, task: Task, message: LoopTaken, segments: tuple[bytes, ...]) -> None:
    """Import a page of collected values, or (without a key) all the rest, which is the last record of a loop."""
    loop = task.imported_loop
    if task.state is not TaskState.WAITING or (loop is not None and loop.resumed is not None):
        turn.partition.drop("loop imported before")
        return
    if loop is None:
        loop = task.imported_loop = LoopState()
    if message.key is not None:
        _import_page(turn, run, task, loop.collected.setdefault(message.key, Collected()), message, segments[0])
        return
    document = orjson.loads(segments[0])
    loop.number, loop.counts, loop.ended_by = message.number, message.counts, message.ended_by
    before = in_iteration((*task.iteration, message.number - 1))
    loop.state = _kept(turn, run, document["state"], "{state}")
    loop.last = _kept(turn, run, document["last"], before)
    for key, (parts, size) in document["collected"].items():
        collected = loop.collected.setdefault(key, Collected())
        collected.pending = b",".join(map(orjson.dumps, parts))
        collected.pending_count, collected.size = len(parts), size
    loop.resumed = message.number
    task.imported_count = message.counts.completed


def _import_page(turn: Turn, run: Run, task: Task, collected: Collected, message: LoopTaken, page: bytes) -> None:
    if message.page != len(collected.pages):  # a new owner imports everything again
        turn.partition.drop("loop imported before")
        return
    stored = stored_of(task, message.key or "")
    turn.put(run, turn.config.names.value_page(run.session_id, run.run_id, stored, message.page), page)
    collected.pages.append((message.parts, len(page)))


def _kept(turn: Turn, run: Run, values: Mapping[str, Any], suffix: str) -> dict[str, Value]:
    """Values as the state has them: large ones by reference to the store."""
    return {key: as_published(turn, run, key + suffix, Value(data)).value for key, data in values.items()}
