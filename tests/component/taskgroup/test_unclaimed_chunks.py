"""Chunks that the owner gives to the worker of its process begin without a claim, and get one if they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from single_worker import NAMES, SingleWorker, offered
from waiting import eventually, turns

from anabranch.core.errors import ServerUnavailable
from anabranch.core.wire.messages import Offer
from anabranch.ports import StateStore
from anabranch_taskgroup.session.store_keys import claim_key
from anabranch_taskgroup.worker import worker as worker_module
from anabranch_taskgroup.worker.late_claims import CLAIM_SECONDS
from anabranch_taskgroup.worker.offered import chunk_key


class Claiming:
    """A worker that was given chunks without claims, and the claims that it has made since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of = SingleWorker()
        self.store: StateStore = self.of.resources.store
        self.claimed: list[list[str]] = []
        self.is_away = False
        claim = self.store.claim

        async def noted(keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
            await asyncio.sleep(0)
            if self.is_away:
                raise ServerUnavailable("the store", "here", "it is away")
            self.claimed.append(list(keys))
            return await claim(keys, owner, ttl)

        monkeypatch.setattr(self.store, "claim", noted)

    async def begin(self, *names: str, **changes: Any) -> list[Offer]:
        """Begin a chunk of each agent."""
        await self.of.start()
        offers = [offered(f"r{number}", name, **changes) for number, name in enumerate(names)]
        self.of.worker.begin(offers)
        return [each.offer for each in offers]

    async def end(self) -> None:
        self.of.go.set()
        await eventually(lambda: not self.of.worker.held)
        await self.of.worker.stop()
        assert self.of.resources.supervisor.failure is None


@pytest.fixture
async def claiming(monkeypatch: pytest.MonkeyPatch) -> Claiming:
    return Claiming(monkeypatch)


async def test_a_member_that_ends_soon_needs_no_claim(claiming: Claiming) -> None:
    await claiming.begin("quick", "quick")
    await eventually(lambda: len(claiming.of.seen) == 2)
    await asyncio.sleep(3 * CLAIM_SECONDS)

    assert claiming.claimed == []
    await claiming.end()
    assert [each.message.last for each in await claiming.of.reports()] == [True, True]


async def test_a_member_that_goes_on_is_claimed_in_the_background(claiming: Claiming) -> None:
    offers = await claiming.begin("waits", "waits")
    await eventually(lambda: claiming.of.running == 2)
    assert claiming.claimed == []
    await eventually(lambda: claiming.claimed)
    await asyncio.sleep(3 * CLAIM_SECONDS)

    assert claiming.claimed == [[claim_key(NAMES, each) for each in offers]], "once, with one call"
    await claiming.end()


async def test_a_delivery_that_is_known_does_not_begin_again(claiming: Claiming) -> None:
    await claiming.begin("quick")
    await eventually(lambda: not claiming.of.worker.held)
    claiming.of.worker.begin([offered("r0"), offered("r0", fence=1), offered("r0", fence=1)])
    await claiming.of.worker.accept([offered("r0"), offered("r0", fence=1)])
    await eventually(lambda: not claiming.of.worker.held)

    assert len(claiming.of.seen) == 2, "one for each fence"
    await claiming.end()


async def test_a_chunk_that_another_worker_has_claimed_is_given_up(claiming: Claiming) -> None:
    offer = offered("r0", "waits").offer
    await claiming.store.put_new(_claim_of(offer, "another"))
    await claiming.begin("waits", "waits")
    await eventually(lambda: claiming.of.running == 2)
    await eventually(lambda: claiming.of.running == 1)

    assert claiming.of.worker.held_keys == [chunk_key(offered("r1").offer)]
    assert not claiming.of.worker.has(chunk_key(offer)), "it may be offered here again"
    await claiming.end()
    ended = [each.message.run_id for each in await claiming.of.reports() if each.message.last]
    assert ended == ["r1"]


def _claim_of(offer: Offer, worker: str) -> Any:
    from anabranch.ports import Write

    return Write(claim_key(NAMES, offer), worker.encode(), 60)


async def test_without_a_confirmed_membership_nothing_begins_before_its_claim(claiming: Claiming) -> None:
    claiming.of.is_confirmed = False
    claiming.is_away = True
    [offer] = await claiming.begin("quick")
    await turns(50)
    assert claiming.of.seen == []
    claiming.is_away = False
    await eventually(lambda: claiming.of.seen)

    assert claiming.claimed == [[claim_key(NAMES, offer)]]
    await claiming.end()


async def test_members_that_wait_for_a_slot_wait_for_their_claim_too(claiming: Claiming) -> None:
    claiming.is_away = True
    await claiming.begin("waits", "waits", "quick")
    await eventually(lambda: claiming.of.running == 2)
    claiming.of.go.set()
    await eventually(lambda: claiming.of.worker.held == 1)
    await turns(50)

    assert len(claiming.of.seen) == 2, "a slot is free, and the third has no claim"
    claiming.is_away = False
    await eventually(lambda: len(claiming.of.seen) == 3)
    await claiming.end()


async def test_further_members_of_a_chunk_begin_once_it_is_claimed(claiming: Claiming) -> None:
    claiming.is_away = True
    [offer] = await claiming.begin("waits", members=3)
    await eventually(lambda: claiming.of.running == 1)
    await turns(50)
    assert claiming.of.running == 1
    claiming.is_away = False
    await eventually(lambda: claiming.of.running == 2, because="the worker has two slots")

    assert claiming.claimed == [[claim_key(NAMES, offer)]]
    await claiming.end()


async def test_a_released_partition_leaves_claims_and_reports(claiming: Claiming) -> None:
    quick, waiting = await claiming.begin("quick", "waits")
    await eventually(lambda: claiming.of.seen and claiming.of.running)
    await claiming.of.worker.hand_over([chunk_key(quick), chunk_key(waiting), ("r9", "g", "t", 0, 0)])

    assert claiming.claimed == [[claim_key(NAMES, waiting)]]
    assert [each.message.run_id for each in await claiming.of.reports() if each.message.last] == ["r0"]
    await claiming.end()


async def test_a_release_does_not_wait_for_a_store_that_is_away(
    claiming: Claiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "HAND_OVER_SECONDS", 0.05)
    claiming.is_away = True
    [offer] = await claiming.begin("waits")
    await eventually(lambda: claiming.of.running)
    async with asyncio.timeout(5):
        await claiming.of.worker.hand_over([chunk_key(offer)])

    assert claiming.claimed == []
    claiming.is_away = False
    await eventually(lambda: claiming.claimed, because="it is still claimed once the store is back")
    await claiming.end()


async def test_the_heartbeat_claims_for_a_loop_that_is_blocked(claiming: Claiming) -> None:
    [offer] = await claiming.begin("waits")
    await claiming.of.worker.claim_for_blocked_loop(claiming.store)
    await claiming.of.worker.claim_for_blocked_loop(claiming.store)

    key = claim_key(NAMES, offer)
    assert claiming.claimed[0] == [key]
    assert await claiming.store.get([key]) == [b"w"]
    await claiming.end()


async def test_a_worker_that_stops_returns_what_has_begun_without_a_claim(claiming: Claiming) -> None:
    await claiming.begin("waits")
    await eventually(lambda: claiming.of.running)
    await claiming.of.worker.stop()
    await asyncio.sleep(3 * CLAIM_SECONDS)

    assert claiming.claimed == []
    assert [each.message.type for each in await claiming.of.reports()][-1] == "returned"
