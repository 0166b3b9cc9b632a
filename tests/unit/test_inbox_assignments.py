"""The inbox over several assignments of one partition: it commits what is its own, and never backwards."""

from __future__ import annotations

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.ports import Committed, Incoming
from anabranch.runtime.clock import SystemClock
from anabranch.runtime.inbox import Inbox


def record(offset: int) -> Incoming:
    return Incoming("t", 0, offset, None, b"", (), 0.0)


async def test_what_was_taken_before_the_partition_came_back_is_not_committed() -> None:
    inbox = Inbox(MemoryLog(MemoryBroker(), SystemClock()), "g", "t", most=10)
    await inbox.assigned("t", 0, None)
    inbox.deliver("t", 0, [record(0), record(1)])
    taken = await inbox.take(10)
    await inbox.lost("t", 0)
    await inbox.assigned("t", 0, Committed(9))

    inbox.done(taken)
    assert await inbox.revoked("t", 0) is None, "another member is far beyond these"

    await inbox.assigned("t", 0, Committed(9))
    inbox.done([record(9)])
    assert await inbox.revoked("t", 0) == Committed(10)
