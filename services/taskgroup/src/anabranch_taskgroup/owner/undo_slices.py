"""Reads what the members of a compensation undo: their items, and their results from the state or the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.names import Names
from anabranch.core.ranges import Ranges
from anabranch.core.wire.undone import SLICED_INDEXES, SLICED_RESULTS
from anabranch.ports import StateStore
from anabranch.runtime.reading.values import member_values
from anabranch_taskgroup.session.compensation import undone_members, undone_task
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.undone_values import packed_results, stored_results


async def undo_slices(
    store: StateStore,
    names: Names,
    run: Run,
    task: Task,
    chunk: Chunk,
    arrays: Mapping[str, Sequence[Any]] | None,
) -> dict[str, list[Any]]:
    """The slices of one chunk of a compensation that has an expansion.

    Args:
        arrays: of the task that is undone, if each member needs only its own items; else the document has them.

    Raises:
        ValueGone: a result is no longer in the store.
        ServerUnavailable: the store does not answer.
    """
    undone = undone_task(run, task.order)
    members = undone_members(undone)
    indexes = [members[index] for index in Ranges(chunk.pending).indexes()]
    results: list[dict[str, Any]] = [{} for _ in indexes]
    for position, key in enumerate(undone.order.result_keys):
        found = await _results(store, names, run, undone, position, indexes)
        for result, index in zip(results, indexes, strict=True):
            result[key] = found.get(index)
    slices: dict[str, list[Any]] = {SLICED_RESULTS: list(results)}
    if arrays is None:
        return slices | {SLICED_INDEXES: list(indexes)}
    return slices | {name: [array[index] for index in indexes] for name, array in arrays.items()}


async def _results(
    store: StateStore, names: Names, run: Run, undone: Task, position: int, indexes: Sequence[int]
) -> dict[int, Any]:
    if not undone.spilled:
        return packed_results(undone, position, indexes)
    key = stored_key(undone.order, undone.order.result_keys[position])
    manifest = stored_results(undone, position, indexes)
    return await member_values(store, names, run.session_id, run.run_id, key, manifest)
