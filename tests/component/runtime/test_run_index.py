"""The run index over views in the store: pages, filters, cursors, runs submitted meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.core.run_filter import RunFilter
from anabranch.core.wire.run_view import RunView
from anabranch.ports import Write
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.reading import run_index
from anabranch.runtime.reading.run_index import ViewIndex

NAMES = Names("t.")


class Runs:
    """A store with views of runs that were submitted one after the other."""

    def __init__(self) -> None:
        self.store = MemoryStore(MemoryServer(SystemClock()))
        self.index = ViewIndex(self.store, NAMES)

    async def add(self, *numbers: int, status: str = "completed") -> None:
        for number in numbers:
            view = RunView(f"run-{number}", None, "s", status=status, submitted_at=float(number), project="shop")
            value = orjson.dumps(view.to_document())
            lookup = Write(NAMES.run_lookup(view.run_id), b"s", 60)
            await self.store.put([lookup, Write(NAMES.view("s", view.run_id), value, 60)])
            await self.store.index_add(NAMES.run_list, {view.run_id: float(number)}, keep=10_000, ttl=60)

    async def pages(self, wanted: RunFilter, limit: int) -> Sequence[list[str]]:
        pages, cursor = [], None
        while True:
            page = await self.index.search(wanted, limit, cursor)
            pages.append([view.run_id for view in page.views])
            if (cursor := page.next_cursor) is None:
                return pages


async def test_pages_have_the_latest_run_first_and_each_run_once() -> None:
    runs = Runs()
    await runs.add(1, 2, 3, 4, 5)

    assert await runs.pages(RunFilter(), 2) == [["run-5", "run-4"], ["run-3", "run-2"], ["run-1"]]


async def test_a_run_that_is_submitted_meanwhile_does_not_move_the_next_page() -> None:
    runs = Runs()
    await runs.add(1, 2, 3)
    first = await runs.index.search(RunFilter(), 1)
    await runs.add(4, 5)

    second = await runs.index.search(RunFilter(), 5, first.next_cursor)

    assert [view.run_id for view in (*first.views, *second.views)] == ["run-3", "run-2", "run-1"]


async def test_a_filter_that_few_runs_match_returns_short_pages_with_a_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_index, "SCAN_BATCH", 2)
    monkeypatch.setattr(run_index, "MAX_SCANNED", 4)
    runs = Runs()
    await runs.add(1, status="failed")
    await runs.add(*range(2, 8))

    assert await runs.pages(RunFilter(status="failed"), 10) == [[], ["run-1"], []]


@pytest.mark.parametrize("text", ["", "x", "WzEsMl0", "W10", "WyJhIiwxLCJiIl0"])
async def test_a_text_that_is_not_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        await Runs().index.search(RunFilter(), 10, text)
