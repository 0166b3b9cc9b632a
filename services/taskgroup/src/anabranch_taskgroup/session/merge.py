"""Joins the results of a task's members into the value of each of its result keys. Pure.

Small results stay in the owner's state, and the join is a value. Over the inline limit they are stored as pages,
as the workers packed them, and the join is a manifest of the pages in member order, not a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import Expanded
from anabranch.core.json_documents import dumps
from anabranch.core.outputs import check_derived, derived, empty_value, identifier_of, join
from anabranch.core.ranges import Ranges, Spans
from anabranch.core.value_objects import value_object
from anabranch.core.wire.messages import Json, MembersReported, MembersTaken
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.store_keys import stored_of
from anabranch_taskgroup.session.task_state import Large, PackedResults, Page, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import reference_to


@value_object
class Joined:
    """The value of one result key: `derived` are the keys that `separate` publishes with it."""

    key: str
    value: Json
    is_reference: bool = False
    derived: tuple[tuple[str, Json], ...] = ()


def add_results(
    task: Task, message: MembersReported | MembersTaken, segments: tuple[bytes, ...], chunk: int, fence: int
) -> None:
    """Keep the results of completed members. Pages of large values are named by the chunk and its fencing token,
    so that a page of an earlier delivery never replaces one that counts."""
    keep_results(task, message.completed, segments, message.items)
    for large in message.large:
        prefix = page_prefix(chunk, fence, large.index)
        task.large.append(Large(large.index, large.key, prefix, large.pages, large.items))


def keep_results(task: Task, completed: Spans, segments: tuple[bytes, ...], items: tuple[int, ...]) -> None:
    """Keep the values of completed members: a JSON array for each result key."""
    task.completed |= completed
    keys = len(task.order.result_keys)
    # The identifiers follow the values of the result keys, for `separate` joins only.
    identifiers = segments[keys] if len(segments) > keys else b""
    task.packed.append(PackedResults(completed, segments[:keys], items, identifiers))
    task.packed_bytes += sum(map(len, segments[:keys]))


def page_prefix(chunk: int, fence: int, index: int) -> str:
    """The prefix of the names of a large value's pages: one for each delivery of its member."""
    return f"{chunk}.{fence}.{index}"


def spill_if_large(turn: Turn, run: Run, task: Task) -> None:
    """Move the results to the store once they exceed the run's inline limit; all later ones follow."""
    # A large value is in the store already. The others follow, since one manifest lists all results of a key.
    if task.spilled or task.packed_bytes > run.inline_limit or task.large:
        task.spilled = True
        for part in task.packed:
            _write_page(turn, run, task, part)
        task.packed.clear()


def _write_page(turn: Turn, run: Run, task: Task, part: PackedResults) -> None:
    # Numbered in the order of the reports, so each owner writes the same page under the same name.
    number = len(task.pages)
    for key, segment in zip(task.order.result_keys, part.segments, strict=True):
        name = turn.config.names.value_page(run.session_id, run.run_id, stored_of(task, key), number)
        turn.put(run, name, segment)
    task.pages.append(Page(number, part.spans, tuple(map(len, part.segments)), part.items))
    if part.identifiers:
        indexes = (index for start, stop in part.spans for index in range(start, stop))
        task.identifiers.update(zip(indexes, orjson.loads(part.identifiers), strict=True))


def join_task(turn: Turn, run: Run, task: Task) -> list[Joined]:
    """The value of each result key of a task, from the members that completed."""
    if task.spilled:
        return [_manifest(turn, run, task, position) for position in range(len(task.order.result_keys))]
    if task.order.expansion is None:
        return _of_one_member(task)
    return [_inline(task, position) for position in range(len(task.order.result_keys))]


MAX_PREDICTED_MEMBERS = 10_000
"""With more members than this, derived keys are checked at the join only, and not before any member runs."""


def predicted_problem(run: Run, task: Task, expanded: Expanded) -> str | None:
    """The error that a join of these members would have, found before any of them runs; None where there is
    none."""
    if not is_separate(task) or expanded.count > MAX_PREDICTED_MEMBERS:
        return None
    members = ((each.index, each.identifier) for each in expanded.members() if each.identifier is not None)
    return _derived_problem(run, task, members)


def join_problem(run: Run, task: Task) -> str | None:
    """The error that keeps the derived keys of a separate task's completed members from being published; None
    where there is none."""
    return _derived_problem(run, task, _identified(task))


def _derived_problem(run: Run, task: Task, members: Iterable[tuple[int, str]]) -> str | None:
    try:
        check_derived(members, task.order.result_keys, declared=run.reserved_keys, published=run.derived)
    except ExpansionError as error:
        return str(error)
    return None


def _identified(task: Task) -> Iterator[tuple[int, str]]:
    """(index, identifier) of the members whose results are part of the join."""
    if task.spilled:
        yield from task.identifiers.items()
    for part in task.packed:
        indexes = (index for start, stop in part.spans for index in range(start, stop))
        names = orjson.loads(part.identifiers) if part.identifiers else map(str, Ranges(part.spans).indexes())
        yield from zip(indexes, names, strict=True)


def is_separate(task: Task) -> bool:
    """True if the task publishes a derived key for each member."""
    return task.order.expansion is not None and task.order.expansion.output_format == "separate"


def empty_join(task: Task) -> list[Joined]:
    """The values of an expansion without members."""
    expansion = task.order.expansion
    assert expansion is not None
    return [Joined(key, empty_value(expansion.output_format)) for key in task.order.result_keys]


def _of_one_member(task: Task) -> list[Joined]:
    """The values of an ordinary task, whose one member completed: those of its only report."""
    joined = []
    for key, segment in zip(task.order.result_keys, task.packed[0].segments, strict=True):
        [value] = orjson.loads(segment)
        joined.append(Joined(key, value))
    return joined


def _inline(task: Task, position: int) -> Joined:
    key = task.order.result_keys[position]
    results = list(_results(task, position))
    expansion = task.order.expansion
    assert expansion is not None
    value = join(expansion.output_format, results, task.total)
    derived_values = tuple(derived(sorted(results), key)) if expansion.output_format == "separate" else ()
    return Joined(key, value, derived=derived_values)


def _results(task: Task, position: int) -> Iterator[tuple[int, str | None, Any]]:
    """(index, identifier, value) of the members whose results are in the owner's state, in no particular order."""
    for part in task.packed:
        indexes = [index for start, stop in part.spans for index in range(start, stop)]
        values = orjson.loads(part.segments[position])
        names = orjson.loads(part.identifiers) if part.identifiers else [None] * len(indexes)
        yield from zip(indexes, names, values, strict=True)


def _manifest(turn: Turn, run: Run, task: Task, position: int) -> Joined:
    key = task.order.result_keys[position]
    document = manifest_of(task, position)
    stored = stored_of(task, key)
    name = turn.config.names.value_manifest(run.session_id, run.run_id, stored)
    turn.put(run, name, dumps(document))
    return Joined(key, reference_to(run, stored, document["count"], document["bytes"]), is_reference=True)


def manifest_of(task: Task, position: int) -> dict[str, Any]:
    """The manifest of a result key whose pages are in the store; `runtime.reading.values` reads it.

    `pages` are [number, spans, bytes] in member order. The spans of two pages may overlap, so a reader orders the
    members of neighbouring pages by index. `large` are [index, page prefix, bytes of each page, whether a list].
    """
    key = task.order.result_keys[position]
    expansion = task.order.expansion
    form = expansion.output_format if expansion is not None else "value"
    # `task.pages` is in the order of arrival, a manifest in that of members.
    pages = sorted(task.pages, key=lambda page: page.spans[0][0])
    large = [large for large in task.large if large.key == key]
    document: dict[str, Any] = {
        "format": form,
        "total": task.total,
        "pages": [[page.number, page.spans, page.sizes[position]] for page in pages],
        "large": [[each.index, each.prefix, each.sizes, each.items is not None] for each in large],
        "count": _count(task, form, pages, position),
        "bytes": sum(page.sizes[position] for page in pages) + sum(sum(each.sizes) for each in large),
    }
    if form == "separate":
        document["identifiers"] = [
            identifier_of((i, task.identifiers.get(i), None)) for i in _completed_indexes(task)
        ]
    return document


def _count(task: Task, form: str, pages: list[Page], position: int) -> int:
    if form == "index":
        return task.total
    if form == "separate":
        return len(task.completed)
    if form == "single":
        return 1
    return sum(page.items[position] for page in pages)


def _completed_indexes(task: Task) -> Iterator[int]:
    return Ranges(task.completed).indexes()
