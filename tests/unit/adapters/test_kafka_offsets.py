"""A commit that the group's coordinator accepts confirms the membership from the time that it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError
from waiting import eventually

from anabranch.adapters.kafka import offsets
from anabranch.adapters.kafka.offsets import OffsetKeeper
from anabranch.adapters.session_lease import MARGIN_SECONDS, SessionLease
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Committed

PLACE = ("t", 0)


class Group:
    """A keeper whose commits are noted, with a clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sent: list[float] = []
        self.lease = SessionLease(8.0)
        commands: Any = self
        self.keeper = OffsetKeeper(commands, "here", lambda place: True, self.lease)
        monkeypatch.setattr(offsets, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        return action(self, *args)

    def commit(self, **_: Any) -> None:
        self.sent.append(self.now)

    def send(self, offset: int) -> asyncio.Task[None]:
        return asyncio.create_task(self.keeper.commit(PLACE, Committed(offset)))

    def holds_at(self, now: float) -> bool:
        return self.lease.holds(now + 8.0 - MARGIN_SECONDS - 0.001)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


async def test_an_accepted_commit_confirms_and_a_refused_one_does_not(group: Group) -> None:
    sending = group.send(1)
    await eventually(lambda: group.sent)
    group.now = 103.0
    group.keeper.acknowledge(KafkaError(KafkaError._NO_OFFSET))
    await sending
    assert not group.holds_at(100.0)

    sending = group.send(2)
    await eventually(lambda: len(group.sent) == 2)
    group.now = 105.0
    group.keeper.acknowledge(None)
    await sending
    assert group.holds_at(103.0)
    assert not group.holds_at(103.1)


async def test_a_late_response_confirms_only_the_time_of_its_own_commit(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "COMMIT_SECONDS", 0.01)
    with pytest.raises(ServerUnavailable):
        await group.send(1)
    monkeypatch.setattr(offsets, "COMMIT_SECONDS", 10.0)
    group.now = 200.0
    sending = group.send(2)
    await eventually(lambda: len(group.sent) == 2)
    group.keeper.acknowledge(None)  # of the first
    await sending
    assert group.holds_at(100.0)
    assert not group.holds_at(100.1)

    group.keeper.acknowledge(None)
    assert group.holds_at(200.0)


async def test_a_response_without_a_commit_confirms_nothing(group: Group) -> None:
    group.keeper.acknowledge(None)

    assert not group.lease.holds(-1e9)
