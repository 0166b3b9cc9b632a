"""What grows with an installation and what does not, as docs/scaling.md says: places of keys, many workers, turns.

The services are the real ones, on a log and a store in memory and in virtual time (see `many_workers`): these
tests are about waiting and about how much is sent, and say nothing of speed.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import log, sqrt
from typing import Any

import pytest
from cluster_slots import SLOTS, slot_of
from many_workers import Installation, installation
from small_requests import array, request, task
from source_tree import ROOT

from anabranch import Task
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.adapters.partitioner import murmur2
from anabranch.core.lanes import DEFAULT_LANE
from anabranch.core.names import Names, run_id_for, session_key
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, encode
from anabranch.ports import Fence, Write
from anabranch_agency.run.planning import MAX_CHUNKS
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.chunks import FIRST_LIMIT, chunk_size
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.timers import Timers
from anabranch_taskgroup.session.turn import DecisionConfig

NAMES = Names()
RULES = DecisionConfig(NAMES)
WINDOW = RULES.window
DOC = ROOT / "docs" / "scaling.md"


def tables(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of docs/scaling.md, without its head."""
    section = DOC.read_text(encoding="utf-8").partition(f"# {heading}\n")[2].partition("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


# --- where keys live -------------------------------------------------------------------------------

PARTITIONS = (12, 48, 192, 768)
MAX_PER_PARTITION = 100


def sessions(count: int) -> list[str]:
    """As callers name them."""
    return [f"customer-{number:07d}" for number in range(count)]


def runs(count: int) -> list[str]:
    """Of requests as callers name them; also the sessions of requests that name none."""
    return [run_id_for(f"order-{number}") for number in range(count)]


@pytest.fixture(scope="module")
def hashes() -> dict[str, list[int]]:
    count = MAX_PER_PARTITION * max(PARTITIONS)
    return {
        kind: [murmur2(key.encode()) & 0x7FFFFFFF for key in keys(count)]
        for kind, keys in (("runs", runs), ("sessions", sessions))
    }


def fullest(hashed: Sequence[int], partitions: int) -> float:
    """The keys of the fullest partition, divided by the mean."""
    held = Counter(each % partitions for each in hashed)
    return max(held.values()) * partitions / len(hashed)


@pytest.mark.parametrize("kind", ["runs", "sessions"])
@pytest.mark.parametrize("partitions", PARTITIONS)
def test_keys_are_spread_as_evenly_as_chance_would(
    hashes: dict[str, list[int]], kind: str, partitions: int
) -> None:
    """With n keys for each partition the fullest has about `sqrt(2 ln(partitions) / n)` more than the mean, like
    bins into which balls are thrown at random. A hash that is worse would keep some owners idle and others too
    busy.
    """
    for each in (10, MAX_PER_PARTITION):
        count, known = each * partitions, hashes[kind]
        samples = [known[start : start + count] for start in range(0, min(len(known), 20 * count), count)]

        found = sum(fullest(sample, partitions) for sample in samples) / len(samples)
        by_chance = sqrt(2 * log(partitions) / each)
        assert 0.5 * by_chance <= found - 1 <= 1.25 * by_chance


def test_the_table_of_the_fullest_partition_is_what_the_partitioner_does(hashes: dict[str, list[int]]) -> None:
    found = [
        [str(count), *(f"{fullest(hashes['sessions'][: each * count], count):.1f}" for each in (1, 10, 100))]
        for count in PARTITIONS
    ]

    assert tables("Sessions and partitions") == found


@pytest.mark.parametrize("nodes", [3, 6, 12])
def test_sessions_are_spread_over_the_nodes_of_a_cluster(nodes: int) -> None:
    """Each node has as many slots as another."""
    count = 10_000
    held = Counter(slot_of(session_key(each, "k")) * nodes // SLOTS for each in sessions(count))

    assert max(held.values()) * nodes / count < 1.05


# --- what has to share a slot ----------------------------------------------------------------------

ARGUMENTS: dict[str, Any] = {
    "session_id": "shop.eu",
    "run_id": "1730a2fb-229a-5d78-a020-51a0b15f671c",
    "run_or_request_id": "1730a2fb-229a-5d78-a020-51a0b15f671c",
    "key": "text.en",
    "group": "fetch",
    "task": "page ü",
    "page": "7.0.2",
    "chunk": "fetch/page ü/7.2",
    "incarnation": "0123456789",
    "kind": "stop",
    "topic": "anabranch.groups",
    "partition": 3,
    "generation": 1,
    "policy": "sum",
    "address": "1730a2fb-229a-5d78-a020-51a0b15f671d",
    "event_id": "payment-1",
    "lane": DEFAULT_LANE,
    "pool": "gpu",
}


def private_keys() -> Iterator[tuple[str, set[str], str]]:
    """Each method of Names that makes a key: its name, its parameters, an example."""
    for name in dir(NAMES):
        is_key = not name.startswith("_") and not name.endswith("_problem")
        method = getattr(NAMES, name) if is_key else None
        wanted = set(inspect.signature(method).parameters) if inspect.ismethod(method) else set()
        if wanted:
            yield name, wanted, method(**{each: ARGUMENTS[each] for each in wanted})


def test_all_keys_of_a_session_share_one_slot_and_so_do_those_of_a_run() -> None:
    of_session = {name: slot_of(key) for name, wanted, key in private_keys() if "session_id" in wanted}
    of_run = {
        name: slot_of(key)
        for name, wanted, key in private_keys()
        if wanted & {"run_id", "run_or_request_id"} and "session_id" not in wanted
    }

    assert set(of_session.values()) == {slot_of(session_key(ARGUMENTS["session_id"], "any"))}
    assert set(of_run.values()) == {slot_of("{" + ARGUMENTS["run_id"] + "}")}
    assert {"value_page", "claim", "fence"} <= set(of_session)
    assert {"tombstone", "run_fence"} <= set(of_run)


class Slotted(MemoryStore):
    """A store that records the slots that each atomic step touches."""

    steps: list[tuple[str, set[int]]]

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server)
        self.steps = STEPS

    async def put(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        if fence is not None:
            keys = [fence.key, *(write.key for write in writes)]
            self.steps.append((" ".join(keys), {slot_of(key) for key in keys}))
        await super().put(writes, fence)


STEPS: list[tuple[str, set[int]]] = []


def test_each_atomic_step_of_the_store_touches_one_slot() -> None:
    """A script of Redis may touch the keys of one slot only. These runs store all kinds of values: of the context,
    results, derived keys, pages and manifests, outcomes, tombstones."""
    STEPS.clear()

    async def works(each: Task) -> Any:
        if each.index is not None and each.index % 7 == 3 and "fails" in each.task_name:
            raise ValueError("no")
        return "x" * 3_000

    wide = {"expansion_config": array(list(range(60)), output_format="separate")}
    with installation(3, {"works": works}, make_store=Slotted, inline_limit=2_000) as s:
        for number, names in enumerate([("a", "b"), ("fails", "c")]):
            first = task(names[0], "works", **wide)
            second = task(names[1], "works", dependencies=[names[0]])
            result, _ = s.wait(s.run(request(first, second, session_id=f"shop-{number}", context={"deep": [1]})))
            assert result.status == ("completed", "failed")[number]

    assert {keys for keys, slots in STEPS if len(slots) > 1} == set()
    kinds = {kind for keys, _ in STEPS for kind in re.findall(r"\}:([a-z-]+)", keys)}
    assert {"fence", "run-fence", "value", "page", "run"} <= kinds


# --- many workers ----------------------------------------------------------------------------------


def fan_out(members: int, agent: str = "work", **more: Any) -> dict[str, Any]:
    """A request of one task with this many members, numbered from 0."""
    return request(task("wide", agent, expansion_config=array(list(range(members))), **more))


class Crowd:
    """An agent whose members take `seconds`, and what it saw. `most` is how many ran at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls: Counter[int | None] = Counter()
        self.inside = self.peak = 0

    async def work(self, each: Task) -> int | None:
        self.calls[each.index] += 1
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        await asyncio.sleep(self.seconds)
        self.inside -= 1
        return each.index


async def watch_chunks(s: Installation, seen: list[tuple[int, int]]) -> None:
    """Sample repeatedly how many chunks of a task wait for a worker, and how many are out in all."""
    while True:
        seen += [(len(each.waiting), len(each.chunks)) for each in s.open_tasks()]
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [50, 100])
def test_one_fan_out_over_many_workers_runs_each_member_once_with_few_chunks_out(workers: int) -> None:
    crowd, members, seen = Crowd(0.05), 10_000, list[tuple[int, int]]()
    with installation(workers, {"work": crowd.work}, concurrency=16) as s:
        watching = s.loop.create_task(watch_chunks(s, seen))
        result, _ = s.wait(s.run(fan_out(members)))
        watching.cancel()

    assert result.status == "completed"
    assert result.results == {"wide": list(range(members))}
    assert set(crowd.calls.values()) == {1}
    assert max(waiting for waiting, _ in seen) == WINDOW
    assert max(out for _, out in seen) <= WINDOW + workers * 16 < MAX_CHUNKS


def test_what_is_sent_for_a_member_does_not_grow_with_the_number_of_workers() -> None:
    sent = {}
    for workers in (10, 100):
        crowd = Crowd(0.05)
        with installation(workers, {"work": crowd.work}, concurrency=16) as s:
            before = {topic: s.records(topic) for topic in ("groups", "tasks", "events")}
            s.wait(s.run(fan_out(10_000)))
            sent[workers] = {topic: s.records(topic) - before[topic] for topic in before}

    for topic, few in sent[10].items():
        assert sent[100][topic] <= 1.2 * few, topic


def test_long_members_run_at_once_if_slots_are_free() -> None:
    """Each is a chunk of its own: if running chunks counted as waiting, few would run on many workers."""
    crowd, members = Crowd(10.0), 2 * WINDOW - 1
    with installation(20, {"work": crowd.work}, concurrency=16) as s:
        result, took = s.wait(s.run(fan_out(members)))

    assert result.status == "completed"
    assert crowd.peak == members
    assert took < 11.0


def test_a_wide_fan_out_of_long_members_is_shared_by_all_workers() -> None:
    """Also the first chunks, cut before any duration is known: the owner's worker gets no more than others."""
    took, peak = {}, {}
    for workers in (10, 40):
        crowd = Crowd(10.0)
        with installation(workers, {"work": crowd.work}, concurrency=16) as s:
            result, took[workers] = s.wait(s.run(fan_out(3_000)))
        assert result.status == "completed"
        peak[workers] = crowd.peak

    assert peak == {10: 160, 40: 640}
    assert took[10] < 1.5 * 3_000 * 10 / 160
    assert took[40] < took[10] / 2


def test_an_idle_worker_queries_the_store_a_few_times_a_second() -> None:
    """It shows that it lives; the owner of a partition sees that the store is the same and has its mark."""
    asked: Counter[str] = Counter()

    class Counting(MemoryStore):
        async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
            asked["get"] += len(keys)
            return await super().get(keys)

        async def put(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
            asked["put"] += len(writes)
            await super().put(writes, fence)

        async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
            asked["index_add"] += 1
            await super().index_add(index, scores, keep=keep, ttl=ttl)

        async def identity(self) -> str:
            asked["identity"] += 1
            return await super().identity()

    workers, partitions, seconds = 60, 12, 100
    with installation(workers, {}, partitions=partitions, make_store=Counting) as s:
        asked.clear()
        s.wait(asyncio.sleep(seconds))

    # A card that does not change is written once a minute.
    assert asked["put"] <= workers * (seconds / 2 + 1) + workers * (seconds / 60 + 1)
    assert asked["index_add"] <= workers * (seconds / 60 + 1)
    assert asked["get"] <= (partitions + 1) * (seconds + 1)  # of each owner of sessions, and of the Agency
    assert asked["identity"] <= (workers / 2 + partitions + 1) * (seconds + 2)


# --- fairness --------------------------------------------------------------------------------------

QUICK = 0.005


def three_tasks() -> dict[str, Any]:
    """One after another."""
    return request(
        task("one", "quick"),
        task("two", "quick", dependencies=["one"]),
        task("three", "quick", dependencies=["two"]),
    )


async def quick(each: Task) -> str:
    await asyncio.sleep(QUICK)
    return each.name


async def behind(s: Installation, giant: dict[str, Any], begun: Sequence[float]) -> tuple[float, list[float]]:
    """The time of a run of three quick tasks on an idle system, and when started this long after a giant run."""
    _, idle = await s.run(three_tasks())
    run = await s.client.submit(giant)
    took = []
    for seconds in begun:
        await asyncio.sleep(seconds)
        result, duration = await s.run(three_tasks())
        assert result.status == "completed"
        took.append(duration)
    await run.cancel()
    assert (await run.result(1_000)).status == "cancelled", "it ran all the time"
    return idle, took


@pytest.mark.parametrize("workers", [4, 12])
def test_a_quick_run_is_not_kept_waiting_by_a_giant_of_short_members(workers: int) -> None:
    crowd = Crowd(0.01)
    with installation(workers, {"work": crowd.work, "quick": quick}) as s:
        # Half a second of work for all slots: longer than the quick runs are submitted for.
        idle, took = s.wait(behind(s, fan_out(3_400 * workers), (0.0, 0.05, 0.2)))

    assert crowd.peak == workers * 64
    assert max(took) <= 3 * idle + 0.02


@pytest.mark.parametrize("workers", [4, 12])
def test_a_quick_run_waits_for_one_member_of_a_giant_at_a_time(workers: int) -> None:
    """All slots are taken by members of a second: each of the three tasks gets the first one that is free."""
    crowd = Crowd(1.0)
    with installation(workers, {"work": crowd.work, "quick": quick}) as s:
        idle, took = s.wait(behind(s, fan_out(10_000), (0.0, 0.5, 1.0)))

    assert crowd.peak == workers * 64
    assert max(took) <= 3 * 1.0 + 3 * idle + 0.02


# --- sizes of chunks -------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 64])
@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0])
def test_a_chunk_is_a_second_of_a_worker_or_one_member_once_some_were_measured(seconds: float, slots: int) -> None:
    """A worker with this many slots, and members of equal duration."""
    size, measured = FIRST_LIMIT, None
    for _ in range(40):
        busy = -(-size // slots) * seconds
        measured = busy / size if measured is None else (measured + busy / size) / 2
        size = chunk_size(RULES, 1_000_000, 1_000_000, measured)

    busy = -(-size // slots) * seconds
    assert size == 1 or busy <= 2.0
    assert size == 500 or busy >= 0.5
    assert (size == 1) == (seconds > 1.0 or (slots == 1 and seconds == 1.0))


# --- many open runs --------------------------------------------------------------------------------


def test_a_turn_reads_only_its_own_run_however_many_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    next_due = Timers.next_due

    def counted(timers: Timers) -> float | None:
        nonlocal read
        read += 1
        return next_due(timers)

    partition, offset = PartitionState(0), 0
    monkeypatch.setattr(Timers, "next_due", counted)
    for number in range(2_000):
        run_id = f"r{number}"
        order = m.TaskOrder(name="t", agent="a", needs=(m.Need(key="later", kind="external"),), result_keys=("k",))
        opened = m.OpenRun(run_id=run_id, request_id=run_id, session_id=run_id, groups=("g",), deadline=1e9)
        started = m.StartGroup(run_id=run_id, group="g", tasks=(order,), timeout=600.0 + number)
        for message in (opened, started):
            decide(RULES, partition, DeliveredMessage(GROUPS.decode(encode(message)).message, (), offset, 0.0))
            offset += 1
            partition.next_due()
            partition.oldest_open()

    assert read <= offset
    assert (partition.next_due(), partition.oldest_open()) == (600.0, 0)
    assert {run.run_id for run in partition.due(602.0)} == {"r0", "r1", "r2"}
