"""What an owner leaves to the next owner of a partition, before the group gives the partition away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from anabranch.ports import Committed
from anabranch.runtime.ownership.owner import Owner


class Released:
    """An owner with one partition; its handler notes what it is asked for."""

    def __init__(self, turn: asyncio.Task[None] | None) -> None:
        self.asked: list[str] = []
        self.owner: Owner[Any] = Owner.__new__(Owner)
        parts: Any = self.owner
        parts._handler = SimpleNamespace(hand_over=self._note("hand over"), on_release=self._note("release"))
        parts._claims = SimpleNamespace(release=lambda owned: None)
        parts._clock = SimpleNamespace(monotonic=lambda: 0.0)
        owned = SimpleNamespace(
            queue=[1], wake=asyncio.Event(), task=turn, timer=None, state=7, committable=lambda now: Committed(5)
        )
        parts._owned = {0: owned}

    def _note(self, name: str) -> Any:
        async def noted(state: int) -> None:
            assert state == 7
            self.asked.append(name)

        return noted


async def _turn() -> None:
    await asyncio.sleep(0)


async def _turn_without_servers() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("has_turn", [False, True])
async def test_a_revoked_partition_is_handed_over(has_turn: bool) -> None:
    released = Released(asyncio.create_task(_turn()) if has_turn else None)

    assert await released.owner.revoked("t", 0) == Committed(5)
    assert released.asked == ["hand over", "release"]


async def test_a_partition_whose_turn_waits_for_servers_too_long_is_not_handed_over() -> None:
    """The time that the group gives is over, and handing over needs the servers."""
    released = Released(asyncio.create_task(_turn_without_servers()))
    revoking = asyncio.create_task(released.owner.revoked("t", 0))
    await asyncio.sleep(0)
    revoking.cancel()

    assert await revoking == Committed(5)
    assert released.asked == ["release"]


async def test_a_lost_partition_is_not_handed_over() -> None:
    """Its next owner has it already, and the servers may be away: the group would wait for each partition."""
    released = Released(asyncio.create_task(_turn()))
    await released.owner.lost("t", 0)

    assert released.asked == ["release"]
