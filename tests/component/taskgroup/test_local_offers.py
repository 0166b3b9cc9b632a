"""Which chunks an owner lets the worker of its process begin without a claim."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from memory_resources import memory_resources

from anabranch.core.names import Names
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import TaskOrder
from anabranch.ports import TopicSpec
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch_taskgroup.owner.dispatch import SMALL_TASK, Dispatcher
from anabranch_taskgroup.owner.offer_router import OfferRouter
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk
from anabranch_taskgroup.worker.offer_queue import OfferQueue
from anabranch_taskgroup.worker.offered import ChunkKey, Offered

NAMES = Names("p.")
OFFER = OfferChunk("r", "g", "t", 0)


@dataclass
class NotedWorker:
    """Notes the chunks that it is given: those that begin at once, and those that are claimed first."""

    confirmed: bool = True
    known: Collection[ChunkKey] = ()
    begun: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    free: int = 4
    id: str = "w"
    is_full: bool = False
    between: int = 0
    """Chunks of small tasks that would start between the members of wide ones."""
    turns_taken: int = 0

    def room(self, most: int) -> int:
        return 0 if self.is_full else most

    def room_between(self, most: int) -> int:
        return min(most, self.between)

    def expect_small_task(self) -> None:
        self.turns_taken += 1

    def knows(self, agent: str) -> bool:
        return True

    def may_begin(self) -> bool:
        return self.confirmed

    def has(self, key: ChunkKey) -> bool:
        return key in self.known

    def begin(self, offers: Sequence[Offered]) -> None:
        self.begun += [each.offer.task for each in offers]

    async def accept(self, offers: Sequence[Offered]) -> None:
        self.claimed += [each.offer.task for each in offers]


class Owner:
    """A dispatcher over a partition with one open chunk."""

    def __init__(self, worker: NotedWorker) -> None:
        clock = SystemClock()
        self.worker = worker
        self.resources = memory_resources(NAMES, clock)
        log_clock = LogClock(clock)
        offers = Offers(DecisionConfig(NAMES, inline_limit=65_536), self.resources.store, log_clock)
        router = OfferRouter(self.resources.log, NAMES)
        life = StoreIdentityTracker(self.resources.store, clock)
        given: Any = worker
        self.dispatcher = Dispatcher(self.resources, offers, given, router, life, log_clock, OfferQueue())
        self.chunk = Chunk(0, Ranges([(0, 1)]), 1)
        task = Task(TaskOrder(name="t", agent="a", result_keys=("k",)), "g", state=TaskState.RUNNING)
        task.chunks[0] = self.chunk
        group = Group("g", 1, tasks={"t": task}, unfinished=1)
        self.state = PartitionState(0)
        self.state.runs["r"] = Run("r", "q", "s", 0, clock.now() + 600, ("g",), groups={"g": group})

    async def offers_on_the_log(self) -> int:
        return sum((await self.resources.log.group_lag("nobody", NAMES.tasks())).values())


async def owner(worker: NotedWorker) -> Owner:
    made = Owner(worker)
    await made.resources.log.create_topics([TopicSpec(NAMES.tasks(), 1), TopicSpec(NAMES.groups, 1)])
    await made.dispatcher.start()
    return made


async def test_the_first_offer_of_a_chunk_begins_without_a_claim_and_each_later_one_is_claimed() -> None:
    found = await owner(NotedWorker())
    await found.dispatcher.offer(found.state, [OFFER])
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == (["t"], ["t"])


@pytest.mark.parametrize(
    ("members", "between", "stays"),
    [
        (1, 1, True),
        (SMALL_TASK, 1, True),
        (SMALL_TASK + 1, 1, False),  # it would fill the worker as the wide run does
        (1, 0, False),  # members that wait have the slots
    ],
)
async def test_a_small_task_stays_at_a_worker_whose_members_never_wait(
    members: int, between: int, stays: bool
) -> None:
    """On the log, its offer would wait behind all those of the wide run."""
    found = await owner(NotedWorker(is_full=True, between=between))
    found.state.runs["r"].groups["g"].tasks["t"].total = members
    await found.dispatcher.offer(found.state, [OFFER])

    assert found.worker.begun == []  # without a free slot a chunk waits, so it is claimed
    assert found.worker.claimed == (["t"] if stays else [])
    assert await found.offers_on_the_log() == (0 if stays else 1)
    assert found.worker.turns_taken == (members <= SMALL_TASK)


async def test_a_chunk_that_was_open_at_the_takeover_is_claimed() -> None:
    found = await owner(NotedWorker())
    found.dispatcher.reoffer_unclaimed(found.state, {"r"})
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == ([], ["t"])


async def test_an_owner_that_is_not_confirmed_claims() -> None:
    found = await owner(NotedWorker(confirmed=False))
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == ([], ["t"])


async def test_a_later_attempt_is_claimed() -> None:
    found = await owner(NotedWorker())
    found.chunk.attempts[0] = 1
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == ([], ["t"])


async def test_a_sweep_forgets_chunks_that_have_ended_also_where_no_other_is_open() -> None:
    found = await owner(NotedWorker())
    await found.dispatcher.offer(found.state, [OFFER])
    found.state.runs.clear()
    await found.dispatcher.sweep([found.state])

    assert not found.dispatcher._monitor._offered


@pytest.mark.parametrize("change", [{"fence": 1}, {"mode": "careful"}, {"mode": "alone"}])
async def test_later_deliveries_and_suspects_go_to_any_worker(change: dict[str, Any]) -> None:
    found = await owner(NotedWorker())
    for name, value in change.items():
        setattr(found.chunk, name, value)
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == ([], [])
    assert await found.offers_on_the_log() == 1


@pytest.mark.parametrize(("is_known", "offers"), [(True, 0), (False, 1)])
async def test_a_sweep_offers_again_what_the_worker_has_dropped_and_not_what_it_has(
    is_known: bool, offers: int
) -> None:
    key = ("r", "g", "t", 0, 0)
    found = await owner(NotedWorker(known=(key,) if is_known else (), free=0))
    found.dispatcher.reoffer_unclaimed(found.state, {"r"})
    await found.dispatcher.sweep([found.state])

    assert await found.offers_on_the_log() == offers


async def test_a_repeated_turn_does_not_offer_to_others_what_has_begun_here() -> None:
    found = await owner(NotedWorker())
    await found.dispatcher.offer(found.state, [OFFER])
    found.worker.known, found.worker.free = (("r", "g", "t", 0, 0),), 0
    await found.dispatcher.offer(found.state, [OFFER])

    assert (found.worker.begun, found.worker.claimed) == (["t"], [])
    assert await found.offers_on_the_log() == 0
