"""The gate that keeps suspects apart in a worker: many careful ones, or a single one that is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from anabranch_taskgroup.worker.shared_lock import SharedLock


class Visitors:
    """Tasks that enter a gate, note it, and stay until they are let go."""

    def __init__(self) -> None:
        self.gate = SharedLock()
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._may_go: dict[str, asyncio.Event] = {}

    async def enter(self, name: str) -> None:
        """`a...` wants to be alone, others do not."""
        self._may_go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name))
        await settle()

    async def _visit(self, name: str) -> None:
        async with self.gate.exclusive() if name.startswith("a") else self.gate.shared():
            self.inside.append(name)
            try:
                await self._may_go[name].wait()
            finally:
                self.inside.remove(name)

    async def leave(self, name: str) -> None:
        self._may_go[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def played(scenario: Callable[[Visitors], Awaitable[None]]) -> None:
    async def play() -> None:
        await scenario(Visitors())

    asyncio.run(play())


def test_who_is_alone_waits_for_all_others_and_all_others_wait_for_it() -> None:
    async def scenario(v: Visitors) -> None:
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


def test_who_gives_up_waiting_keeps_nobody_out() -> None:
    async def scenario(v: Visitors) -> None:
        for name in ("c1", "a1", "c2"):
            await v.enter(name)
        await v.cancel("a1")
        assert v.inside == ["c1", "c2"]
        await v.enter("a2")
        await v.cancel("c1")
        await v.leave("c2")
        assert v.inside == ["a2"]

    played(scenario)


def test_who_is_cancelled_as_it_is_let_in_leaves_again() -> None:
    async def scenario(v: Visitors) -> None:
        await v.enter("a1")
        await v.enter("a2")
        v._may_go["a1"].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        v.tasks["a2"].cancel()
        await settle()
        await v.enter("c1")
        assert v.inside == ["c1"]

    played(scenario)
