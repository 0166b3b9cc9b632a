"""The fair semaphore: the holder with the fewest slots gets the next one, and no slot is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from anabranch_taskgroup.worker.fair_semaphore import FairSemaphore


class Crowd:
    """Tasks that acquire and release slots. `inside` are the holders of the slots that are taken."""

    def __init__(self, count: int) -> None:
        self.slots = FairSemaphore(count)
        self.inside: list[str] = []
        self._leave: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *holders: str) -> None:
        for holder in holders:
            self.tasks.append(asyncio.ensure_future(self._hold(holder)))
        await settled()

    async def leave(self, holder: str) -> None:
        self._leave[holder].pop().set()
        await settled()

    async def _hold(self, holder: str) -> None:
        async with self.slots.one(holder):
            leave = asyncio.Event()
            self.inside.append(holder)
            self._leave.setdefault(holder, []).append(leave)
            try:
                await leave.wait()
            finally:
                self.inside.remove(holder)
                if leave in self._leave[holder]:
                    self._leave[holder].remove(leave)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_holder_with_the_fewest_slots_is_next_however_long_others_wait() -> None:
    crowd = Crowd(3)
    await crowd.come(*"aaaaaa", "b", "c")
    assert crowd.inside == ["a", "a", "a"]

    await crowd.leave("a")
    await crowd.leave("a")
    assert sorted(crowd.inside) == ["a", "b", "c"]
    await crowd.leave("a")
    assert sorted(crowd.inside) == ["a", "b", "c"]
    await crowd.close()


async def test_holders_with_equally_many_slots_take_turns() -> None:
    crowd = Crowd(1)
    await crowd.come(*"aaabbb")

    turns = []
    for _ in range(6):
        [holder] = crowd.inside
        turns.append(holder)
        await crowd.leave(holder)

    assert turns == ["a", "a", "b", "a", "b", "b"]  # the first slot was taken before any task waited
    assert crowd.inside == []


async def test_a_slot_is_wanted_by_a_holder_with_none_or_at_least_two_fewer() -> None:
    crowd = Crowd(4)
    await crowd.come(*"aaaa")
    assert not crowd.slots.should_yield("a")

    await crowd.come("a")
    assert not crowd.slots.should_yield("a")
    await crowd.come(*"bbb")
    assert crowd.slots.should_yield("a")
    await crowd.leave("a")
    assert sorted(crowd.inside) == ["a", "a", "a", "b"]
    assert crowd.slots.should_yield("a")
    await crowd.leave("a")
    assert sorted(crowd.inside) == ["a", "a", "b", "b"]
    assert not crowd.slots.should_yield("a")
    assert not crowd.slots.should_yield("b")
    await crowd.close()


@pytest.mark.parametrize("seed", range(30))
async def test_no_slot_is_lost_or_given_twice_by_cancellations(seed: int) -> None:
    random = Random(seed)
    count = random.randint(1, 4)
    crowd = Crowd(count)

    for _ in range(80):
        kind = random.random()
        if kind < 0.5:
            await crowd.come(random.choice("abc"))
        elif kind < 0.75 and crowd.inside:
            await crowd.leave(random.choice(crowd.inside))
        elif open_tasks := [task for task in crowd.tasks if not task.done()]:
            # Also a task that gets a slot in the same turn of the loop.
            if crowd.inside and random.random() < 0.5:
                crowd._leave[random.choice(crowd.inside)][-1].set()
                await asyncio.sleep(0)
            random.choice(open_tasks).cancel()
            await settled()
        unfinished = len([task for task in crowd.tasks if not task.done()])
        assert len(crowd.inside) == min(count, unfinished)
    await crowd.close()
    await crowd.come(*"abcde")
    assert Counter(crowd.inside).total() == count
    await crowd.close()
