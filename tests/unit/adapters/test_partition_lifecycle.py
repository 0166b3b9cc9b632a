"""A takeover whose answer never comes is begun again, and says where it waited."""

from __future__ import annotations

import asyncio
import logging

import pytest

from anabranch.adapters.lifecycle import TAKE_OVER_SECONDS, PartitionLifecycle
from anabranch.ports import Committed
from anabranch.testing.loop import VirtualLoop

PARTITION = ("runs", 3)


class SilentOnce:
    """A listener whose first takeover waits for ever."""

    def __init__(self) -> None:
        self.calls = 0

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        self.calls += 1
        if self.calls == 1:
            await asyncio.Future()
        return 7

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        raise AssertionError("nothing is revoked here")

    async def lost(self, topic: str, partition: int) -> None:
        raise AssertionError("nothing is lost here")

    def deliver(self, *_: object) -> None:
        raise AssertionError("nothing is delivered here")


def test_a_takeover_without_an_answer_is_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    loop, listener = VirtualLoop(), SilentOnce()

    async def takeover() -> tuple[float, int | None]:
        opened: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        async def committed(_: object) -> Committed | None:
            return None

        lifecycle = PartitionLifecycle(listener, committed, lambda _, start, __: opened.set_result(start))
        lifecycle.begin(PARTITION)
        start = await opened
        return loop.time(), start

    with caplog.at_level(logging.ERROR):
        ended, start = loop.run_until_complete(takeover())
    loop.close()

    assert start == 7
    assert TAKE_OVER_SECONDS < ended < TAKE_OVER_SECONDS + 2
    assert "taking over runs[3] failed" in caplog.text
    assert "await asyncio.Future()" in caplog.text, "the log has to show where the takeover waited"
