"""Reads the items of a loop's list out of the store, some at a time: each batch becomes a record of the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.members import as_list, lookup_path
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.wire.messages import LoopItems
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.loop_items import stored_list
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import LoopPhase, Task

BATCH_BYTES = 65_536
"""Bytes of the items in one record at most, unless one item has more."""
BATCH = 500
CURSORS = 64
"""Lists that are read from where the last batch ended; those of other loops are read from their beginning."""

_Cursor = AsyncGenerator[Any, None]
_LoopId = tuple[str, int, str, str, tuple[int, ...]]


@dataclass(slots=True)
class _Position:
    """A list that is being read: `number` items were read of it, the last of which is `ahead`."""

    cursor: _Cursor
    number: int = 0
    ahead: Sequence[Any] = ()


class LoopItemReader:
    """Reads the items of loops for one process."""

    def __init__(self, store: StateStore, names: Names) -> None:
        self._store = store
        self._names = names
        self._positions: BoundedDict[_LoopId, _Position] = BoundedDict(CURSORS)

    async def read(self, run: Run, task: Task) -> LoopItems | None:
        """The next items that a loop waits for; None if it waits for none.

        Raises:
            ValueGone: the list is no longer in the store.
            ServerUnavailable: the store does not answer.
        """
        loop, found = task.loop, stored_list(run, task)
        if loop is None or loop.phase is not LoopPhase.READING or found is None:
            return None
        start = loop.number
        try:
            items, is_last = await self._items(run, task, found, start)
        except ExpansionError as error:
            return _message(run, task, start, (), error=str(error))
        return _message(run, task, start, items, is_last=is_last)

    async def _items(
        self, run: Run, task: Task, found: tuple[str, Value], start: int
    ) -> tuple[Sequence[Any], bool]:
        name = (run.run_id, run.admission, task.group, task.name, task.iteration)
        position = self._positions.pop(name, None)
        if position is None or position.number - len(position.ahead) != start:
            position = _Position(await self._open(run, task, found))
            await _skip(position, start)
        batch: list[Any] = list(position.ahead)
        size = sum(len(dumps(item)) for item in batch)
        position.ahead = ()
        async for item in position.cursor:
            position.number += 1
            size += len(dumps(item))
            if batch and (size > BATCH_BYTES or len(batch) == BATCH):
                position.ahead = (item,)
                self._positions[name] = position
                return batch, False
            batch.append(item)
        return batch, True

    async def _open(self, run: Run, task: Task, found: tuple[str, Value]) -> _Cursor:
        """The items of a list in the store, page by page where the list is all of the stored value."""
        name, value = found
        spec = task.order.loop
        assert spec is not None
        assert isinstance(spec.each, str)
        session = run.session_id
        if name == spec.each and await values.is_long_list(self._store, self._names, value.data, within=session):
            return values.iterate(self._store, self._names, value.data, within=session)
        whole = await values.resolve(self._store, self._names, value.data, within=session)
        try:
            return _each(as_list(lookup_path({name: whole}, spec.each), "each"))
        except KeyError:
            raise ExpansionError(f"`each` of the loop has no list: there is no value at {spec.each!r}") from None


def refused_items(run: Run, task: Task, error: str) -> LoopItems | None:
    """The message that a loop cannot get its next items; None if it waits for none."""
    loop = task.loop
    return None if loop is None else _message(run, task, loop.number, (), error=error)


async def _each(items: Sequence[Any]) -> _Cursor:
    for item in items:
        yield item


async def _skip(position: _Position, start: int) -> None:
    while position.number < start:
        await anext(position.cursor, None)
        position.number += 1


def _message(
    run: Run, task: Task, start: int, items: Sequence[Any], *, is_last: bool = False, error: str | None = None
) -> LoopItems:
    return LoopItems(
        run_id=run.run_id,
        group=task.group,
        task=task.name,
        iteration=task.iteration,
        start=start,
        items=tuple(items),
        last=is_last,
        error=error,
        admission=run.admission,
    )
