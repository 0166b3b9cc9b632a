"""The lock that keeps suspects apart in a worker: careful members share it, a member alone has it to itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from anabranch_taskgroup.worker.shared_lock import SharedLock


class Holders:
    """Tasks that acquire the lock, and hold it until they are released; `inside` are the holders, in order."""

    def __init__(self) -> None:
        self.lock = SharedLock()
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._release: dict[str, asyncio.Event] = {}

    async def enter(self, name: str) -> None:
        """`a...` wants the lock alone, others share it."""
        self._release[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name))
        await settle()

    async def _hold(self, name: str) -> None:
        async with self.lock.exclusive() if name.startswith("a") else self.lock.shared():
            self.inside.append(name)
            try:
                await self._release[name].wait()
            finally:
                self.inside.remove(name)

    async def leave(self, name: str) -> None:
        self._release[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def played(scenario: Callable[[Holders], Awaitable[None]]) -> None:
    async def play() -> None:
        await scenario(Holders())

    asyncio.run(play())


def test_an_exclusive_holder_waits_for_all_before_it_and_all_after_wait_for_it() -> None:
    async def scenario(v: Holders) -> None:
        for name in ("c1", "c2", "a1", "c3", "a2", "c4"):
            await v.enter(name)
        assert v.inside == ["c1", "c2"]
        await v.leave("c1")
        assert v.inside == ["c2"]
        await v.leave("c2")
        assert v.inside == ["a1"]
        await v.leave("a1")
        assert v.inside == ["c3"]
        await v.leave("c3")
        assert v.inside == ["a2"]
        await v.leave("a2")
        assert v.inside == ["c4"]

    played(scenario)


def test_a_cancelled_waiter_blocks_no_other() -> None:
    async def scenario(v: Holders) -> None:
        for name in ("c1", "a1", "c2"):
            await v.enter(name)
        await v.cancel("a1")
        assert v.inside == ["c1", "c2"]
        await v.enter("a2")
        await v.cancel("c1")
        await v.leave("c2")
        assert v.inside == ["a2"]

    played(scenario)


def test_a_task_that_is_cancelled_as_it_is_admitted_releases_the_lock() -> None:
    async def scenario(v: Holders) -> None:
        await v.enter("a1")
        await v.enter("a2")
        v._release["a1"].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        v.tasks["a2"].cancel()
        await settle()
        await v.enter("c1")
        assert v.inside == ["c1"]

    played(scenario)
