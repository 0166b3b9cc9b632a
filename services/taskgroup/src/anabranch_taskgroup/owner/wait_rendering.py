"""Fills in the placeholders of waits whose values are in the store, and appends the result to the log in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import expand
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.waits.rendering import RenderedWait
from anabranch.core.wire.messages import WaitsRendered
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.arrays import arrays_of
from anabranch_taskgroup.session.conditions import condition_values
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.wait_opening import MAX_IN_TURN, renderer_of
from anabranch_taskgroup.session.task_state import Task

Page = tuple[WaitsRendered, Sequence[bytes]]


async def rendered_pages(store: StateStore, names: Names, run: Run, task: Task) -> list[Page]:
    """The messages that say what the members of a step wait for, from the first that does not wait yet.

    Raises:
        ValueGone: a value is no longer in the store.
    """
    data = {key: run.context[key] for key in task.order.context_keys if key in run.context}
    for key, value in condition_values(run, task).items():
        found = value.data
        data[key] = (
            await values.resolve(store, names, found, within=run.session_id) if value.is_reference else found
        )
    try:
        return list(_pages(run, task, data))
    except ExpansionError as error:
        return [refusal(run, task, str(error))]


def refusal(run: Run, task: Task, reason: str) -> Page:
    """The message that a step cannot wait, because the values of its wait cannot be used."""
    first = 0 if task.waits is None else task.waits.opened
    message = WaitsRendered(
        run_id=run.run_id,
        group=task.group,
        task=task.name,
        first=first,
        error=reason,
        iteration=task.iteration,
        admission=run.admission,
    )
    return message, ()


def _pages(run: Run, task: Task, data: dict[str, Any]) -> Iterator[Page]:
    renderer = renderer_of(run, task, data)
    first = 0 if task.waits is None else task.waits.opened
    expansion = task.order.expansion
    if expansion is None:
        yield _page(run, task, 0, 1, [renderer.only()])
        return
    expanded = expand(expansion, arrays_of(task, data), limit=run.member_limit)
    # Without members there is one page, which says that.
    for start in range(first, max(expanded.count, 1), MAX_IN_TURN):
        members = expanded.members(start, start + MAX_IN_TURN)
        yield _page(run, task, start, expanded.count, list(renderer.of_members(members)))


def _page(run: Run, task: Task, first: int, total: int, rendered: Sequence[RenderedWait]) -> Page:
    message = WaitsRendered(
        run_id=run.run_id,
        group=task.group,
        task=task.name,
        first=first,
        total=total,
        iteration=task.iteration,
        admission=run.admission,
    )
    return message, (dumps([each.to_document() for each in rendered]),)
