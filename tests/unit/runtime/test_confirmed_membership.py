"""An owner whose service needs it confirms its membership every two seconds, and at no cost while it commits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anabranch.adapters.session_lease import MARGIN_SECONDS, SessionLease
from anabranch.ports import Committed
from anabranch.runtime.ownership.commits import Committer


class Partition:
    """An owned partition with a position that a test advances."""

    number, is_marked, store, confirmed = 3, False, "a store", Committed(0)

    def __init__(self) -> None:
        self.position: Committed | None = None
        self.last_commit: Committed | None = None

    def committable(self, now: float) -> Committed | None:
        return self.position


class Rounds:
    """The rounds of a committer, and what each one sent to the group."""

    def __init__(self, *, stays_confirmed: bool = True) -> None:
        self.partition = Partition()
        self.sent: list[str] = []
        self.accepts = True
        context: Any = SimpleNamespace(
            handler=SimpleNamespace(topic="t"),
            owned={3: self.partition},
            membership=SimpleNamespace(is_rejoining=False, commit=self._commit, confirm=self._confirm),
            resources=SimpleNamespace(store=SimpleNamespace(identity=_answer("a store"))),
            loss_detector=SimpleNamespace(sample_lost=_answer([]), save_changed=_answer(None)),
            recreation=SimpleNamespace(were_recreated=_answer(False)),
            clock=SimpleNamespace(monotonic=lambda: 0.0),
            is_current=lambda owned: True,
        )
        self._committer = Committer(context, stays_confirmed=stays_confirmed)

    async def _commit(self, partition: int, position: Committed) -> None:
        self.sent.append(f"commit {position.offset}")

    async def _confirm(self, partition: int, position: Committed) -> bool:
        self.sent.append(f"confirm {partition} {position.offset}")
        return self.accepts

    async def run(self, count: int = 1) -> list[str]:
        """Run some rounds; returns what they sent."""
        self.sent = []
        for _ in range(count):
            await self._committer._commit_all()
        return self.sent


def _answer(value: Any) -> Any:
    async def answer(*_: Any) -> Any:
        return value

    return answer


async def test_a_membership_without_commits_is_confirmed_in_every_second_round() -> None:
    assert await Rounds().run(6) == ["confirm 3 0"] * 3
    assert await Rounds(stays_confirmed=False).run(6) == []


async def test_commits_confirm_it_too() -> None:
    rounds = Rounds()
    for offset in range(1, 4):
        rounds.partition.position = Committed(offset)
        assert await rounds.run() == [f"commit {offset}"]

    assert [await rounds.run() for _ in range(4)] == [[], ["confirm 3 0"], [], ["confirm 3 0"]]


async def test_a_confirmation_that_fails_is_repeated_in_the_next_round() -> None:
    rounds = Rounds()
    rounds.accepts = False

    assert await rounds.run(4) == ["confirm 3 0"] * 3


def test_a_lease_counts_from_the_sending_of_the_last_accepted_commit() -> None:
    lease = SessionLease(8.0)
    assert not lease.holds(0.0)
    lease.confirm(10.0)
    lease.confirm(9.0)  # an answer that was overtaken

    assert lease.holds(18.0 - MARGIN_SECONDS - 0.001)
    assert not lease.holds(18.0 - MARGIN_SECONDS)
    lease.end()
    assert not lease.holds(10.0)


@pytest.mark.parametrize("seconds", [0.0, 0.5, MARGIN_SECONDS])
def test_a_session_shorter_than_the_margin_gives_no_lease(seconds: float) -> None:
    lease = SessionLease(seconds)
    lease.confirm(10.0)

    assert not lease.holds(10.0)
