"""What a compensation sees of the task that it undoes: the results of its members. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from anabranch.core.wire.undone import RESULT
from anabranch_taskgroup.session.compensation import undone_task
from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.merge import manifest_of
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.value_references import reference_to


def results_of_only_member(run: Run, task: Task) -> dict[str, Value]:
    """By result key: the value of the task that a compensation undoes, of which each has one member."""
    undone = undone_task(run, task.order)
    found: dict[str, Value] = {}
    for position, key in enumerate(undone.order.result_keys):
        if undone.spilled:
            manifest = manifest_of(undone, position)
            reference = reference_to(run, stored_key(undone.order, key), manifest["count"], manifest["bytes"])
            found[key] = Value(reference, is_reference=True)
        elif undone.packed:
            [value] = orjson.loads(undone.packed[0].segments[position])
            found[key] = Value(value)
        elif isinstance(known := lookup_of(run, undone)(key), Value):
            found[key] = known
    return found


def names_of_result(results: dict[str, Value]) -> dict[str, Value]:
    """The names by which templates see results: `result` with a field for each key, and each key itself. A value
    that is in the store is no field, but has a name of its own: `result.<key>`."""
    fields = {key: value.data for key, value in results.items() if not value.is_reference}
    stored = {f"{RESULT}.{key}": value for key, value in results.items() if value.is_reference}
    return {RESULT: Value(fields), **stored, **results}


def stored_results(undone: Task, position: int, indexes: Collection[int]) -> dict[str, Any]:
    """The manifest of the pages that have the results of these members under a result key."""
    wanted = set(indexes)
    manifest = manifest_of(undone, position)
    manifest["pages"] = [page for page in manifest["pages"] if _has_any(page[1], wanted)]
    return manifest


def _has_any(spans: Any, wanted: set[int]) -> bool:
    return any(index in wanted for start, stop in spans for index in range(start, stop))


def packed_results(undone: Task, position: int, indexes: Collection[int]) -> dict[int, Any]:
    """By index: the results of these members under a result key that are in the owner's state."""
    wanted, found = set(indexes), dict[int, Any]()
    for part in undone.packed:
        if _has_any(part.spans, wanted):
            numbers = (index for start, stop in part.spans for index in range(start, stop))
            found.update(zip(numbers, orjson.loads(part.segments[position]), strict=True))
    return found
