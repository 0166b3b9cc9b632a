"""Reads what a loop had when its run ended, and makes the records of it for the log of the retry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, reference_address
from anabranch.core.wire.messages import Counts, LoopTaken
from anabranch.core.wire.results import MARK
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.state import Run

LoopRecord = tuple[LoopTaken, Sequence[bytes]]


class LoopReader:
    """Reads the loops of one ended run."""

    def __init__(self, store: StateStore, names: Names, session_id: str, before: str) -> None:
        self._store = store
        self._names = names
        self._session_id = session_id
        self._before = before

    async def records(
        self, run: Run, place: tuple[str, str], loop: Mapping[str, Any]
    ) -> AsyncIterator[LoopRecord]:
        """The records of one loop: the pages of its collected values, then all the rest.

        Raises:
            ValueGone: a value is no longer in the store.
        """
        about = {"run_id": run.run_id, "group": place[0], "task": place[1], "number": loop["number"]}
        rest: dict[str, Any] = {}
        for key, (pages, parts, size) in loop["collected"].items():
            for number, count in enumerate(pages):
                page = await self._page(key, number)
                yield LoopTaken(**about, key=key, page=number, parts=count), (dumps(page),)
            rest[key] = [await self._whole(parts), size]
        document = {
            "state": await self._resolved(loop["state"]),
            "last": await self._resolved(loop["last"]),
            "collected": rest,
        }
        counts = Counts.model_validate(loop["counts"])
        yield LoopTaken(**about, ended_by=loop["ended_by"], counts=counts), (dumps(document),)

    async def _page(self, key: str, number: int) -> list[Any]:
        name = self._names.value_page(self._session_id, self._before, key, number)
        [found] = await self._store.get([name])
        # A page that has expired since it was checked: its run keeps it longer than its outcome.
        return await self._whole(orjson.loads(found or b"[]"))

    async def _whole(self, parts: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Parts of a collected list with their values."""
        return [{"value": await self._value(part)} for part in parts]

    async def _value(self, part: Mapping[str, Any]) -> Any:
        if "of" not in part:
            return part["value"]
        reference = {MARK: reference_address(self._session_id, part["of"]), "run_id": self._before}
        return await values.resolve(self._store, self._names, reference, within=self._session_id)

    async def _resolved(self, found: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        return {
            key: await values.resolve(self._store, self._names, data, within=self._session_id)
            if is_reference
            else data
            for key, (data, is_reference) in found.items()
        }
