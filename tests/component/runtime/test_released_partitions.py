"""Partitions that a consumer group revokes while servers do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from bare_owners import BareHandler, BareState, bare_owner
from waiting import eventually

from anabranch.adapters.lifecycle import REVOKE_SECONDS
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.names import Names
from anabranch.ports import Incoming, Outgoing, TopicSpec
from anabranch.testing.loop import VirtualClock, VirtualLoop

TOPIC = TopicSpec("t.runs", 1)


class SlowHandler(BareHandler):
    """A handler whose turn, and whose handover, take a while."""

    def __init__(self, turn: float, handover: float) -> None:
        super().__init__(TOPIC.name)
        self._turn = turn
        self._handover = handover
        self.begun = False
        self.released = False

    async def prepare(self, state: BareState, records: Sequence[Incoming], recall: Any) -> None:
        if any(record.value == b"slow" for record in records):
            self.begun = True
            await asyncio.sleep(self._turn)

    async def hand_over(self, state: BareState) -> None:
        await asyncio.sleep(self._handover)

    async def on_release(self, state: BareState) -> None:
        self.released = True


@pytest.mark.parametrize(("turn", "handover"), [(0.5, 60.0), (3.9, 2.0), (4.5, 2.0), (60.0, 2.0)])
def test_a_revoked_partition_is_released_in_time_however_long_its_turn_and_its_handover_take(
    turn: float, handover: float
) -> None:
    async def revoked() -> None:
        loop = asyncio.get_running_loop()
        clock = VirtualClock(loop)
        broker = MemoryBroker()
        broker.create(TOPIC)
        log = MemoryLog(broker, clock)
        handler = SlowHandler(turn, handover)
        owner = bare_owner(handler, log, clock, Names("t."))
        await owner.start()
        await eventually(lambda: owner.states)
        await log.publish([Outgoing(TOPIC.name, "k", b"slow")])
        await eventually(lambda: handler.begun)

        began = loop.time()
        async with asyncio.timeout(REVOKE_SECONDS):
            position = await owner.revoked(TOPIC.name, 0)
        assert handler.released
        assert loop.time() - began <= REVOKE_SECONDS
        assert position is not None, "what was done before is committed"
        await owner.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(revoked())
