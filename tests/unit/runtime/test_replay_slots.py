"""The semaphore for replays: few hold it at once, in the order of arrival, and none waits for ever."""

from __future__ import annotations

import asyncio

from anabranch.runtime.ownership.replay_slots import ReplaySemaphore
from anabranch.testing.loop import VirtualLoop


async def _hold(semaphore: ReplaySemaphore, name: str, began: list[str], until: asyncio.Event) -> None:
    async with semaphore.slot():
        began.append(name)
        await until.wait()


async def test_the_first_waiter_has_the_next_slot() -> None:
    semaphore, began = ReplaySemaphore(2, patience=60.0), []
    ends = {name: asyncio.Event() for name in "abcd"}
    tasks = [asyncio.create_task(_hold(semaphore, name, began, ends[name])) for name in "abcd"]
    await asyncio.sleep(0)
    assert began == ["a", "b"]
    ends["b"].set()
    await tasks[1]
    await asyncio.sleep(0)
    assert began == ["a", "b", "c"]
    for each in ends.values():
        each.set()
    await asyncio.gather(*tasks)
    assert began == ["a", "b", "c", "d"]


def test_a_waiter_continues_without_a_slot_after_a_long_wait() -> None:
    """The holder of the slot may depend on the waiter."""
    loop = VirtualLoop()

    async def both() -> float:
        semaphore, came = ReplaySemaphore(1, patience=2.0), asyncio.Event()
        began: list[str] = []
        first = asyncio.create_task(_hold(semaphore, "first", began, came))
        await asyncio.sleep(0)
        async with semaphore.slot():
            waited = loop.time()
            came.set()
        await first
        async with semaphore.slot():  # what was never held is not given back
            second = asyncio.create_task(_hold(semaphore, "second", began, came))
            await asyncio.sleep(0)
            assert began == ["first"]
        await second
        return waited

    start = loop.time()
    try:
        assert loop.run_until_complete(both()) - start == 2.0
    finally:
        loop.close()
