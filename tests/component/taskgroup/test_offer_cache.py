"""The owner's cache of task documents: how many tasks in flight it serves, and which entry it evicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.core.ranges import Ranges
from anabranch.core.request.models import Expansion
from anabranch.core.wire.messages import Need, TaskOrder
from anabranch.core.wire.results import reference_document
from anabranch.ports import Fence, Write
from anabranch.runtime.process.clock import SystemClock
from anabranch_taskgroup.owner import offers
from anabranch_taskgroup.owner.offers import Offers, task_id
from anabranch_taskgroup.session.state import Group, Run, Value
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import DecisionConfig

NAMES = Names("p.")
MEMBERS = 100


class CountingStore(MemoryStore):
    """Counts the documents that are written: one for each that is built."""

    documents = 0

    async def put(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        self.documents += len(writes)
        await super().put(writes, fence)


def expanded_task(name: str, instructions: str = "x" * 3_000) -> Task:
    """A task of 100 members with a document above `MAX_INLINE_BYTES`, so that the store holds it."""
    expansion = Expansion(type="array", array_mapping={"item": "items"})
    made = TaskOrder(
        name=name,
        agent="echo",
        needs=(Need(key="items", kind="produced"),),
        expansion=expansion,
        shared_instructions=instructions,
        result_keys=(f"out-{name}",),
    )
    task = Task(made, "g")
    task.total = MEMBERS
    return task


def open_run() -> Run:
    return Run("r", "q", "s", 0, SystemClock().now() + 60, ("g",), values={"items": Value(list(range(MEMBERS)))})


async def documents_built(tasks: Iterable[Task]) -> int:
    """Offers one chunk of each task in turn; returns how often a document was built."""
    clock = SystemClock()
    store = CountingStore(MemoryServer(clock))
    made = Offers(DecisionConfig(NAMES, inline_limit=65_536), store, clock)
    run = open_run()
    for number, task in enumerate(tasks):
        chunk = Chunk(number % 10, Ranges([(number % 10, number % 10 + 1)]), 1)
        offer, (inline, _), _ = await made.make(run, Group("g", 1), task, chunk)
        assert offer.document_key is not None
        assert inline == b""
    return store.documents


async def test_200_tasks_in_flight_build_their_documents_once() -> None:
    tasks = [expanded_task(f"t{n}") for n in range(200)]

    built = await documents_built(task for _ in range(10) for task in tasks)

    assert built == 200, f"hit rate {1 - built / 2_000:.0%}, 90% expected: one miss for each task"


async def test_a_task_in_use_is_not_evicted_by_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "CACHE_BYTES", 4 * offers.ENTRY_BYTES)
    wide = expanded_task("wide")
    others = [expanded_task(f"t{n}") for n in range(20)]

    built = await documents_built(task for other in others for task in (wide, other))

    assert built == 1 + len(others), "a FIFO cache rebuilds the document of the wide task"


async def test_arrays_out_of_the_store_count_by_their_bytes() -> None:
    run, task = open_run(), expanded_task("t")
    size = 5 * offers.ENTRY_BYTES
    run.values["items"] = Value(reference_document("s", "items", "r", MEMBERS, size), is_reference=True)

    assert offers._stored_bytes(run, task) == size
    assert offers._stored_bytes(open_run(), task) == 0


async def test_a_task_without_outstanding_chunks_is_dropped_from_the_cache() -> None:
    clock = SystemClock()
    store = CountingStore(MemoryServer(clock))
    made = Offers(DecisionConfig(NAMES, inline_limit=65_536), store, clock)
    run, ended, going = open_run(), expanded_task("ended"), expanded_task("going")
    chunk = Chunk(0, Ranges([(0, 1)]), 1)
    for task in (ended, going):
        await made.make(run, Group("g", 1), task, chunk)

    made.keep_only({task_id(run, going)})
    for task in (ended, going):
        await made.make(run, Group("g", 1), task, chunk)

    assert store.documents == 3, "the document of the dropped task is built again, that of the other is not"
