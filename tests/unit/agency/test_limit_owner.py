"""The owner of a limit: who is granted what, in which order, and what becomes of late and repeated wishes."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.limit_addresses import limit_address
from anabranch.core.names import Names
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_agency.run.actor import decide_delivered
from anabranch_agency.run.limits import LEASE_SECONDS
from anabranch_agency.run.snapshots import decode_run, snapshot_of
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig

NAMES = Names("t.")


def holder(run: str, task: str = "t") -> m.GrantHolder:
    return m.GrantHolder(run_id=run, session_id=f"s-{run}", group="g", task=task, admission=3)


class Owner:
    """The owner of one limit. Each record is written at `at`, which only `pass_time` changes."""

    def __init__(self, kind: Any = "concurrency", limit: int = 1, **rule: Any) -> None:
        self.partition, self.offset, self.at = PartitionState(0), 0, 1_000.0
        self.rule = m.LimitRule(kind=kind, project="p", name="k", limit=limit, **rule)
        self.address = limit_address("p", kind, "k")
        self.events: list[tuple[str, dict[str, Any]]] = []

    def feed(self, message: m.Message) -> list[str]:
        """The answers to a message, as `run number amount`, with the verdict if it is no grant."""
        self.offset += 1
        delivery = DeliveredMessage(RUNS.decode(encode(message)).message, (), self.offset, self.at)
        turn = decide_delivered(DecisionConfig(NAMES), self.partition, delivery)
        self.events += [(each.entry.type, dict(each.entry.data)) for each in turn.events]
        sent = [
            GROUPS.decode(effect.outgoing.value).message
            for effect in turn.effects
            if isinstance(effect, PublishAfter)
        ]
        return [_shown(each) for each in sent]

    def want(self, run: str, number: int = 0, amount: int = 1, **more: Any) -> list[str]:
        given = {"since": self.at, "rule": self.rule, **more}
        return self.feed(
            m.WantGrant(run_id=self.address, holder=holder(run), number=number, amount=amount, **given)
        )

    def give_back(self, run: str, number: int | None = 0, left: int = 0) -> list[str]:
        return self.feed(m.ReturnGrant(run_id=self.address, holder=holder(run), number=number, left=left))

    def pass_time(self, seconds: float) -> list[str]:
        """Fire the timers that become due meanwhile."""
        until, answers = self.at + seconds, []
        while (due := self.partition.next_deadline()) is not None and due <= until:
            self.at = max(self.at, due)
            answers += self.feed(m.TimerDue(run_id=self.address, at=self.at))
        self.at = until
        return answers

    def restart(self) -> None:
        """Continue with the state that a snapshot has."""
        state = self.partition.limits[self.address]
        message, payload = snapshot_of(self.partition, state)
        restored = decode_run(message, payload)
        assert restored == state
        self.partition.limits[self.address] = restored


def _shown(message: Any) -> str:
    if isinstance(message, m.CheckGrant):
        return f"check {message.run_id} {list(message.numbers)}"
    text = f"{message.run_id} {message.number} {message.amount}"
    return text if message.verdict == "granted" else f"{message.run_id} {message.verdict}"


def test_places_are_granted_in_order_and_never_more_than_there_are() -> None:
    owner = Owner(limit=2)

    assert owner.want("a") == ["a 0 1"]
    assert owner.want("b") == ["b 0 1"]
    assert owner.want("c") == []
    assert owner.want("d") == []
    owner.restart()

    assert owner.give_back("b") == ["c 0 1"]
    assert owner.give_back("a", None) == ["d 0 1"]


def test_a_chunk_gets_the_places_that_are_free_and_gives_them_back_one_by_one() -> None:
    owner = Owner(limit=3)
    owner.want("a")

    assert owner.want("b", amount=3) == ["b 0 2"]
    assert owner.want("c") == []
    assert owner.give_back("b", left=1) == ["c 0 1"]
    assert owner.give_back("b", left=1) == []


def test_a_higher_level_goes_first_and_then_who_has_waited_longest() -> None:
    owner = Owner()
    owner.want("a")
    owner.want("late", since=900.0)
    owner.want("first", since=800.0)
    owner.want("high", level=4)

    granted = [owner.give_back(run) for run in ("a", "high", "first")]

    assert granted == [["high 0 1"], ["first 0 1"], ["late 0 1"]]


def test_a_wish_that_is_repeated_is_one_wish() -> None:
    owner = Owner()

    assert [owner.want("a"), owner.want("a"), owner.want("b"), owner.want("b")] == [["a 0 1"], ["a 0 1"], [], []]
    assert owner.give_back("a") == ["b 0 1"]
    assert owner.give_back("a") == []
    assert owner.want("a") == [], "it was given back"


def test_nothing_is_left_once_all_is_given_back() -> None:
    owner = Owner()
    owner.want("a")
    owner.want("b")
    owner.give_back("b", None)
    owner.give_back("a")

    assert (owner.partition.limits, owner.partition.next_deadline()) == ({}, None)


def test_a_wish_is_not_granted_once_its_holder_has_taken_it_back() -> None:
    owner = Owner()
    owner.want("a")
    owner.give_back("b", 7)

    assert owner.want("b", 7) == []
    assert owner.give_back("a") == []


def test_silent_holders_and_wishes_are_asked_and_ended_by_the_answer() -> None:
    owner = Owner()
    owner.want("a", 4)
    owner.want("b", 5)

    assert owner.pass_time(LEASE_SECONDS + 1) == ["check a [4]", "check b [5]"]
    assert owner.want("b", 5) == []
    assert owner.give_back("a", 4) == ["b 5 1"]
    assert owner.pass_time(2 * LEASE_SECONDS) == ["check b [5]"]


def test_what_is_held_counts_although_the_address_is_new() -> None:
    owner = Owner()

    assert owner.want("a", held=1) == []
    assert owner.want("b") == []
    assert owner.give_back("a") == ["b 0 1"]


def test_what_was_given_back_does_not_count_again() -> None:
    owner = Owner()
    owner.want("a")
    owner.want("b")
    owner.give_back("a")

    owner.want("a", held=1)

    assert owner.partition.limits[owner.address].held == 1
    assert owner.give_back("b") == []


def test_a_rate_grants_its_burst_and_then_as_time_passes() -> None:
    owner = Owner("rate", 10, per=1.0, burst=3)

    assert owner.want("a", amount=5) == ["a 0 3"]
    assert owner.want("b", amount=1) == []
    owner.restart()
    assert owner.pass_time(0.21) == ["a 0 4", "a 0 5"]
    assert owner.pass_time(0.1) == ["b 0 1"]
    assert owner.want("a", amount=5) == ["a 0 5"], "a repeated wish takes nothing"
    owner.pass_time(1.0)
    assert owner.partition.limits == {}, "a full bucket is as a new one"


def test_a_fast_rate_needs_few_timers() -> None:
    owner = Owner("rate", 10_000, per=1.0, burst=1)
    owner.want("a", amount=1_000)

    timers = owner.pass_time(1.0)

    assert len(timers) < 25
    assert timers[-1] == "a 0 1000"


@pytest.mark.parametrize(
    ("on_full", "answers", "then"),
    [
        ("queue", [], ["b 0 1"]),
        ("reject", ["c refused"], ["b 0 1"]),
        ("replace_queued", ["b replaced"], ["c 0 1"]),
        ("cancel_running", ["a revoked"], ["b 0 1"]),
    ],
)
def test_what_a_full_key_does(on_full: Any, answers: list[str], then: list[str]) -> None:
    owner = Owner(on_full=on_full)
    rule = owner.rule.model_copy(update={"on_full": "queue"})
    owner.want("a", rule=rule)
    owner.want("b", rule=rule)

    assert owner.want("c") == answers
    assert owner.give_back("a") == then


def test_a_task_does_not_refuse_its_own_members() -> None:
    owner = Owner(on_full="reject")

    assert owner.want("a", 0) == ["a 0 1"]
    assert owner.want("a", 1) == []


# --- breakers --------------------------------------------------------------------------------------


class Breaker(Owner):
    """A breaker that opens with the second failure in a minute, for half a minute."""

    def __init__(self) -> None:
        super().__init__("breaker", breaker={"failures": 2, "window": 60, "cooldown": 30})

    def call(self, run: str, *, failed: int = 0) -> None:
        """A member of a run that passes or fails."""
        assert self.want(run) == [f"{run} 0 1"]
        outcome = {"passed": 1 - failed, "failed": failed}
        self.feed(m.ReturnGrant(run_id=self.address, holder=holder(run), number=0, left=0, **outcome))

    @property
    def phase(self) -> str:
        breaker = self.partition.limits[self.address].breaker
        assert breaker is not None
        return breaker.phase


def test_an_open_breaker_that_nobody_asks_needs_no_timers() -> None:
    owner = Breaker()
    owner.call("a", failed=1)
    owner.call("b", failed=1)
    records = owner.offset

    owner.pass_time(86_400)

    assert owner.phase == "open"
    assert owner.offset - records <= 2
    owner.restart()
    assert owner.want("c") == ["c 0 1"], "one tries again"
    assert owner.phase == "half_open"
    assert owner.want("d") == []


def test_a_closed_breaker_forgets_its_outcomes_with_few_timers_and_is_dropped() -> None:
    owner = Breaker()
    owner.call("a", failed=1)
    owner.pass_time(50)
    owner.call("b")
    records = owner.offset

    owner.pass_time(120)

    assert owner.partition.limits == {}
    assert owner.offset - records <= 4


def test_a_breaker_that_a_person_opens_says_who_and_why_until_it_is_closed() -> None:
    owner = Breaker()
    said = {"name": "k", "by": "Ada", "reason": "outage"}
    owner.feed(m.SetBreaker(run_id=owner.address, is_open=True, **said))
    owner.restart()
    assert owner.want("a") == []
    owner.pass_time(3_600)
    breaker = owner.partition.limits[owner.address].breaker
    assert breaker is not None
    assert (breaker.phase, breaker.by_hand, breaker.by, breaker.reason) == ("open", True, "Ada", "outage")

    assert owner.feed(m.SetBreaker(run_id=owner.address, is_open=False, **said)) == ["a 0 1"]
    assert (breaker.by_hand, breaker.by, breaker.reason) == (False, "", "")


def test_a_breaker_tells_once_that_it_opens_and_closes_and_why() -> None:
    owner, about = Breaker(), {"agent": "k", "project": "*"}
    owner.call("a")
    owner.call("b", failed=1)
    assert owner.events == []
    owner.call("c", failed=1)
    until = "1970-01-01T00:17:10.000Z"
    assert owner.events == [("breaker.opened", {**about, "passed": 1, "failed": 2, "until": until})]

    owner.pass_time(31)
    owner.call("d")
    assert owner.events[1:] == [("breaker.closed", about)]

    said = {"by": "Ada", "reason": "outage"}
    for is_open, who in (
        (True, said),
        (True, said),
        (True, {"by": "Ben", "reason": ""}),
        (False, said),
        (False, said),
    ):
        owner.feed(m.SetBreaker(run_id=owner.address, name="k", is_open=is_open, **who))
    assert owner.events[2:] == [
        ("breaker.opened", {**about, **said}),
        ("breaker.opened", {**about, "by": "Ben", "reason": None}),
        ("breaker.closed", {**about, **said}),
    ]
