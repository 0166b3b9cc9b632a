"""The owner of events: who gets which event, what is kept, and what becomes of a delivery that came too late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from anabranch.core.conditions import normalized
from anabranch.core.event_addresses import event_address
from anabranch.core.names import Names
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_agency.run.actor import decide_delivered
from anabranch_agency.run.event_state import MAX_KEPT, EventAddress
from anabranch_agency.run.snapshots import decode_run, snapshot_of
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DeadLetterOriginal, DecisionConfig, Turn

NAMES = Names("t.")
ADDRESS = event_address("p", "paid", "k")
DAY = 86_400.0


class Owner:
    """The owner of one address. Each record follows the one before at the same time, unless `at` is given."""

    def __init__(self) -> None:
        self.partition, self.offset, self.at = PartitionState(0), 0, 1_000.0
        self.config = DecisionConfig(NAMES)
        self.turns: list[Turn] = []

    def feed(self, message: m.Message, segments: tuple[bytes, ...] = (), at: float | None = None) -> Turn:
        found = RUNS.decode(encode(message, segments))
        self.at = self.at if at is None else at
        self.offset += 1
        delivery = DeliveredMessage(found.message, found.segments, self.offset, self.at)
        self.turns.append(decide_delivered(self.config, self.partition, delivery))
        return self.turns[-1]

    def publish(
        self, event_id: str, data: Any = None, ttl: float = DAY, at: float | None = None, **more: Any
    ) -> Turn:
        about = {"project": "p", "name": "paid", "key": "k", "origin": "t.requests/0/1", **more}
        message = m.PublishEvent(run_id=ADDRESS, event_id=event_id, ttl=ttl, **about)
        return self.feed(message, (orjson.dumps(data),), at)

    def wait(
        self, run: str = "r", task: str = "w", count: int = 1, when: str | None = None, **more: Any
    ) -> list[str]:
        """Open the waits of a task; returns what they get at once."""
        condition = None if when is None else normalized(when)
        given = {"until": 1e9, **more}
        opened = m.OpenEventWait(
            run_id=ADDRESS, waiter=waiter(run, task), spans=((0, count),), when=condition, **given
        )
        return given_in(self.feed(opened))

    def close(self, run: str = "r", task: str = "w", count: int = 1) -> Turn:
        return self.feed(m.CloseEventWait(run_id=ADDRESS, waiter=waiter(run, task), spans=((0, count),)))

    def answer(self, delivered: m.DeliverEvent, *, taken: bool = True, is_open: bool = False) -> list[str]:
        answer = m.AnswerEvent(
            run_id=ADDRESS,
            waiter=waiter(delivered.run_id, delivered.task),
            index=delivered.index,
            number=delivered.number,
            taken=taken,
            is_open=is_open,
            deliver=delivered.deliver,
        )
        return given_in(self.feed(answer))

    def pass_time(self, at: float) -> None:
        while (due := self.partition.next_deadline()) is not None and due <= at:
            self.feed(m.TimerDue(run_id=ADDRESS, at=due), at=due)
        self.at = at

    @property
    def last(self) -> m.DeliverEvent:
        """The last delivery."""
        return [each for turn in self.turns for each in deliveries(turn)][-1]

    @property
    def address(self) -> EventAddress:
        return self.partition.addresses[ADDRESS]


def waiter(run: str, task: str) -> m.EventWaiter:
    return m.EventWaiter(run_id=run, session_id=f"s-{run}", group="g", task=task, admission=7)


def deliveries(turn: Turn) -> Iterator[m.DeliverEvent]:
    for effect in turn.effects:
        if isinstance(effect, PublishAfter) and effect.outgoing.topic == NAMES.groups:
            found = GROUPS.decode(effect.outgoing.value).message
            assert isinstance(found, m.DeliverEvent)
            assert effect.outgoing.key == found.session_id
            yield found


def given_in(turn: Turn) -> list[str]:
    """The deliveries of a turn as `run/task/index event`."""
    return [f"{each.run_id}/{each.task}/{each.index} {each.event_id}" for each in deliveries(turn)]


# --- keeping -------------------------------------------------------------------------------------


def test_an_event_before_its_wait_is_kept_for_it() -> None:
    owner = Owner()
    owner.publish("e1")
    owner.publish("e2")

    assert owner.wait(task="first") == ["r/first/0 e1"]
    assert owner.wait(task="second") == ["r/second/0 e2"]


def test_an_event_is_kept_for_its_time_and_no_longer() -> None:
    owner = Owner()
    owner.publish("e1", ttl=60, at=1_000.0)
    owner.at = 1_059.9
    assert owner.wait("a") == ["a/w/0 e1"]
    owner.at = 1_060.0

    assert owner.wait("b") == []


def test_an_address_without_events_and_waits_is_forgotten() -> None:
    owner = Owner()
    owner.publish("e1", ttl=60)
    owner.pass_time(1_059.0)
    assert owner.address.events
    owner.pass_time(1_061.0)

    assert not owner.partition.addresses
    assert owner.partition.next_deadline() is None
    owner.wait()
    assert owner.publish("e2")
    owner.answer(owner.last)
    owner.pass_time(1_061.0 + 2 * DAY)
    assert not owner.partition.addresses


def test_a_late_repetition_does_not_open_a_wait_again_whose_address_is_forgotten() -> None:
    owner = Owner()
    owner.wait("r")
    owner.close("r")
    assert not owner.partition.addresses
    owner.wait("r")
    assert not owner.partition.addresses

    owner.wait("other")
    assert len(list(owner.address.waits())) == 1


def test_a_wait_that_nothing_closes_is_forgotten_at_its_end() -> None:
    owner = Owner()
    owner.wait(until=5_000.0)
    owner.pass_time(5_000.0)

    assert not owner.partition.addresses


def test_the_same_id_within_seven_days_is_the_same_event() -> None:
    owner = Owner()
    owner.wait(count=2)
    assert given_in(owner.publish("e1")) == ["r/w/0 e1"]
    owner.pass_time(1_000.0 + 6.9 * DAY)
    assert given_in(owner.publish("e1")) == []
    owner.pass_time(1_000.0 + 7.1 * DAY)

    assert given_in(owner.publish("e1")) == ["r/w/1 e1"]


def test_events_over_the_limit_of_an_address_become_dead_letters() -> None:
    owner = Owner()
    for number in range(MAX_KEPT):
        owner.publish(f"e{number}", ttl=60)
    turn = owner.publish("more")

    [refused] = [effect for effect in turn.effects if isinstance(effect, DeadLetterOriginal)]
    assert refused.origin == "t.requests/0/1"
    owner.at += 61
    assert not any(isinstance(effect, DeadLetterOriginal) for effect in owner.publish("later").effects)


# --- who gets it ---------------------------------------------------------------------------------


def test_each_run_gets_an_event_once_by_the_wait_that_opened_first() -> None:
    owner = Owner()
    for run, task in (("a", "first"), ("a", "second"), ("b", "only")):
        owner.wait(run, task)

    assert given_in(owner.publish("e1")) == ["a/first/0 e1", "b/only/0 e1"]
    assert owner.wait("a", "third") == []
    assert given_in(owner.publish("e2")) == ["a/second/0 e2"]


def test_of_waits_that_share_events_the_longest_waiting_gets_it() -> None:
    owner = Owner()
    owner.wait("a", deliver="one")
    owner.wait("b", deliver="one")
    owner.wait("c")

    assert given_in(owner.publish("e1")) == ["c/w/0 e1", "a/w/0 e1"]
    assert given_in(owner.publish("e2")) == ["b/w/0 e2"]
    assert owner.wait("d", deliver="one") == []


def test_an_event_that_is_for_one_run_goes_to_the_longest_waiting() -> None:
    owner = Owner()
    owner.wait("a", when="n > 5")
    owner.wait("b")
    owner.wait("c", deliver="one")

    assert given_in(owner.publish("e1", {"n": 1}, deliver="one")) == ["b/w/0 e1"]
    late = owner.last
    assert given_in(owner.publish("e2", {"n": 9}, deliver="one")) == ["a/w/0 e2"]
    assert owner.wait("d") == []
    assert owner.answer(late, taken=False, is_open=True) == ["c/w/0 e1"]
    assert owner.answer(owner.last, taken=False) == ["d/w/0 e1"]
    owner.answer(owner.last)
    assert owner.wait("e") == []


def test_a_condition_chooses_the_events_of_a_wait() -> None:
    owner = Owner()
    owner.publish("small", {"amount": 5})
    owner.publish("text", {"amount": "much"})
    owner.publish("none", [1])

    assert owner.wait(task="large", when="amount > 10") == []
    assert owner.wait(task="list", when='data is_type "array"') == ["r/list/0 none"]
    assert given_in(owner.publish("big", {"amount": 11})) == ["r/large/0 big"]
    assert owner.wait(task="any") == ["r/any/0 small"]


@pytest.mark.parametrize(
    "when", ["amount > 10", "data.amount > 10", "event.data.amount > 10", "event.id == 'big' && amount > 10"]
)
def test_a_condition_names_the_data_with_or_without_its_place(when: str) -> None:
    owner = Owner()
    assert owner.wait(when=when) == []

    assert given_in(owner.publish("small", {"amount": 5})) == []
    assert given_in(owner.publish("big", {"amount": 11})) == ["r/w/0 big"]


def test_members_of_one_task_get_one_event_each() -> None:
    owner = Owner()
    owner.wait(count=3)

    assert [given_in(owner.publish(each)) for each in "xyz"] == [["r/w/0 x"], ["r/w/1 y"], ["r/w/2 z"]]


def test_a_wait_for_several_events_gets_that_many() -> None:
    owner = Owner()
    owner.publish("e1")
    assert owner.wait(collect=3) == ["r/w/0 e1"]
    owner.answer(owner.last, is_open=True)
    assert given_in(owner.publish("e2")) == ["r/w/0 e2"]
    assert given_in(owner.publish("e3")) == ["r/w/0 e3"]

    assert given_in(owner.publish("e4")) == []


# --- answers -------------------------------------------------------------------------------------


def test_a_later_wait_of_a_run_does_not_see_what_an_earlier_one_took() -> None:
    owner = Owner()
    owner.wait()
    owner.publish("e1")
    owner.answer(owner.last)

    assert owner.wait(task="next") == []
    assert owner.wait("other") == ["other/w/0 e1"]


def test_an_event_that_came_too_late_is_given_to_the_next_wait() -> None:
    owner = Owner()
    owner.wait("a", deliver="one")
    owner.publish("e1")
    late = owner.last
    owner.close("a")
    owner.wait("b", deliver="one")

    assert owner.answer(late, taken=False) == ["b/w/0 e1"]
    assert owner.answer(late, taken=False) == [], "a repeated answer changes nothing"


def test_an_event_that_came_too_late_is_kept_for_a_later_wait_of_the_run() -> None:
    owner = Owner()
    owner.wait()
    owner.publish("e1")
    owner.close()
    owner.answer(owner.last, taken=False)

    assert owner.wait(task="next") == ["r/next/0 e1"]


def test_an_event_that_a_wait_took_as_it_closed_is_taken() -> None:
    owner = Owner()
    owner.wait(collect=2)
    owner.publish("e1")
    owner.close()
    owner.answer(owner.last, is_open=True)

    assert owner.wait(task="next") == []


def test_an_event_that_a_wait_refuses_leaves_the_wait_open() -> None:
    owner = Owner()
    owner.wait("a", deliver="one")
    owner.wait("b", deliver="one")
    owner.publish("odd")
    assert owner.answer(owner.last, taken=False, is_open=True) == ["b/w/0 odd"]

    assert given_in(owner.publish("fine")) == ["a/w/0 fine"]


def test_a_wait_that_is_registered_again_gets_what_is_under_way_to_it_again() -> None:
    owner = Owner()
    owner.publish("e1")
    assert owner.wait() == ["r/w/0 e1"]
    assert owner.wait() == ["r/w/0 e1"]
    owner.answer(owner.last)

    assert owner.wait() == [], "a registration that is repeated late"
    assert given_in(owner.publish("e2")) == []
    assert owner.wait(task="next") == ["r/next/0 e2"]


# --- the fold ------------------------------------------------------------------------------------


def test_a_snapshot_of_an_address_restores_it() -> None:
    owner = Owner()
    owner.wait("a", when="n > 3", collect=2)
    owner.wait("b", deliver="one")
    owner.publish("e1", {"n": 5})
    owner.publish("e2", {"n": 1}, ttl=60)
    message, payload = snapshot_of(owner.partition, owner.address)

    restored = decode_run(message, payload)

    assert restored == owner.address
    assert isinstance(restored, EventAddress)
    owner.partition.addresses[ADDRESS] = restored
    restored.trail = owner.address.trail
    assert given_in(owner.publish("e3", {"n": 9})) == ["a/w/0 e3"]


def test_an_address_holds_the_log_from_its_first_record_on() -> None:
    owner = Owner()
    owner.offset = 10
    owner.publish("e1", ttl=60)
    owner.wait("b")

    assert owner.partition.oldest_open() == 11
    owner.answer(owner.last)
    owner.pass_time(1_060.0)
    assert owner.partition.oldest_open() is None


def test_the_cost_of_a_wait_does_not_depend_on_the_events_that_its_run_has() -> None:
    owner = Owner()
    for number in range(1_000):
        owner.publish(f"e{number}")
    for number in range(990):
        assert owner.wait(task=f"w{number}") == [f"r/w{number}/0 e{number}"]
    looked_at = list(owner.address.from_cursor("r"))
    assert len(looked_at) == 10

    late = next(each for turn in owner.turns for each in deliveries(turn) if each.event_id == "e5")
    owner.answer(late, taken=False)
    assert owner.wait(task="next") == ["r/next/0 e5"]
    assert owner.wait(task="then") == ["r/then/0 e990"]
    owner.pass_time(1_000.0 + DAY)
    assert not owner.address.events


def test_the_cost_of_an_event_does_not_depend_on_the_number_of_waits() -> None:
    owner = Owner()
    owner.wait(count=10_000, deliver="one")
    looked_at = 0
    hungry = owner.address.shared.hungry

    class Counting(dict[Any, Any]):
        def items(self) -> Any:
            nonlocal looked_at
            for item in super().items():
                looked_at += 1
                yield item

    owner.address.shared.hungry = Counting(hungry)
    owner.publish("e1")
    owner.publish("e2")

    assert looked_at <= 4
