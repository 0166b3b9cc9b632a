"""Waits for events at the owner of their session: registered, ended by deliveries, and answered each time."""

from __future__ import annotations

from typing import Any

import orjson
from waiting_runs import NAMES, WaitingRun, each_of, waits

from anabranch.core.event_addresses import event_address
from anabranch.core.reasons import Fact
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.event_waits import registrations
from anabranch_taskgroup.session.known_runs import abandon
from anabranch_taskgroup.session.pending import waits_of
from anabranch_taskgroup.session.turn import RegisterWaits

ADDRESS = event_address("default", "paid", "k")


def event(**more: Any) -> dict[str, Any]:
    return {"event": {"name": "paid", "key": more.pop("key", "k"), **more}}


def deliver(run: WaitingRun, data: Any = None, number: int = 1, index: int = 0, **more: Any) -> m.AnswerEvent:
    """Deliver an event; returns the answer."""
    message = m.DeliverEvent(
        run_id="r",
        group="g",
        task="w",
        index=index,
        session_id="s",
        address=ADDRESS,
        number=number,
        event_id=f"e{number}",
        **more,
    )
    before = len(list(run.published()))
    run.feed(message, (orjson.dumps(data),))
    [answer] = [each for each in list(run.published())[before:] if isinstance(each, m.AnswerEvent)]
    assert (answer.run_id, answer.number, answer.index) == (ADDRESS, number, index)
    return answer


def registered(run: WaitingRun) -> list[m.OpenEventWait]:
    """What the owner registers now, from the state alone."""
    effects = [each for each in derive(run.run) if isinstance(each, RegisterWaits)]
    return [
        message
        for each in effects
        for message in registrations(run.run, run.task(each.task), each.start, each.stop)
    ]


def closed(run: WaitingRun) -> list[m.Spans]:
    return [each.spans for each in run.published() if isinstance(each, m.CloseEventWait)]


def test_a_wait_is_registered_under_the_address_of_its_events() -> None:
    run = WaitingRun(waits(**event(when="n > 3", deliver="one"), collect=2), project="shop")

    assert RegisterWaits("r", "g", "w", 0, 1) in run.turns[-1].effects
    [message] = registered(run)
    assert message.run_id == event_address("shop", "paid", "k")
    assert (message.spans, message.collect, message.deliver) == (((0, 1),), 2, "one")
    assert message.when == {"field": "n", "operator": "greater_than", "value": 3}
    assert (message.waiter.run_id, message.waiter.session_id, message.waiter.task) == ("r", "s", "w")


def test_members_are_registered_by_key_until_they_end() -> None:
    run = WaitingRun(waits(**event(key="{item}"), expansion=each_of(["a", "b", "a"])))
    assert {each.run_id: each.spans for each in registered(run)} == {
        event_address("default", "paid", "a"): ((0, 1), (2, 3)),
        event_address("default", "paid", "b"): ((1, 2),),
    }
    deliver(run, "x", index=0)

    assert [each.spans for each in registered(run)] == [((2, 3),), ((1, 2),)]


def test_a_delivery_ends_the_wait_and_a_repeated_one_is_answered_and_changes_nothing() -> None:
    run = WaitingRun(waits(**event()), waits("other", signal="go"))
    first = deliver(run, {"n": 1})
    again = deliver(run, {"n": 1})

    assert (first.taken, first.is_open) == (True, False)
    assert (again.taken, again.is_open) == (False, False)
    assert [each["event_id"] for each in run.events("task.completed")] == ["e1"]


def test_an_event_after_the_timeout_is_given_back() -> None:
    run = WaitingRun(waits(**event(), timeout=30, on_timeout="value", value="late"), waits("other", signal="go"))
    run.pass_time(1_031.0)
    assert closed(run) == [((0, 1),)]

    answer = deliver(run, "x")

    assert (answer.taken, answer.is_open) == (False, False)
    assert [each["ended_by"] for each in run.events("task.completed")] == ["timeout"]


def test_an_event_for_a_run_that_has_ended_is_given_back() -> None:
    run = WaitingRun(waits(**event()))
    deliver(run, "x")
    assert run.finished is not None

    assert not deliver(run, "y", number=2).taken


def test_a_stopped_run_closes_its_waits() -> None:
    run = WaitingRun(waits(**event(), expansion=each_of([1, 2, 3])))
    deliver(run, "x", index=1)
    run.feed(m.StopRun(run_id="r", reason="cancelled"))

    assert closed(run) == [((0, 1), (2, 3))]


def test_an_abandoned_run_closes_its_waits() -> None:
    run = WaitingRun(waits(**event()))
    turn = run.turns[-1]

    abandon(turn, run.run)

    assert closed(run) == [((0, 1),)]


def test_a_wait_for_several_events_takes_each_once() -> None:
    run = WaitingRun(waits(**event(), collect=2), waits("other", signal="go"))
    assert deliver(run, 1, number=1).is_open
    repeated = deliver(run, 1, number=1)
    assert (repeated.taken, repeated.is_open) == (True, True)
    assert run.from_snapshot().task("g", "w") == run.task()

    assert not deliver(run, 2, number=2).is_open
    assert len(run.events("event.received")) == 2
    assert [each["ended_by"] for each in run.events("task.completed")] == ["event"]


def test_data_that_does_not_fit_the_schema_leaves_the_wait_open() -> None:
    run = WaitingRun(waits(**event(), schema={"type": "object"}))
    answer = deliver(run, "text")

    assert (answer.taken, answer.is_open) == (False, True)
    assert [each["event_id"] for each in run.events("event.refused")] == ["e1"]
    assert deliver(run, {}, number=2).taken


def test_a_key_that_cannot_be_one_fails_its_member() -> None:
    run = WaitingRun(waits(**event(key="{item}"), expansion=each_of(["x" * 501, "ok"])))

    assert [each.spans for each in registered(run)] == [((1, 2),)]
    [failure] = run.events("task.failed")
    assert failure["error_type"] == "InvalidWait"


def test_an_iteration_answers_for_itself_only() -> None:
    run = WaitingRun(waits(**event()))

    answer = deliver(run, "x", iteration=(1,))

    assert (answer.taken, answer.waiter.iteration) == (False, (1,))
    assert not run.events("task.completed")


def test_why_names_the_events_that_members_wait_for() -> None:
    run = WaitingRun(waits(**event(key="{item}"), expansion=each_of(["a", "b"])))

    missing = [each.missing for each in waits_of(run.run, NAMES)]
    found = [(each.fact, each.name, each.key, each.members, each.since) for each in missing]

    assert found == [
        (Fact.WAITS_FOR_EVENT, "paid", "a", ((0, 1),), 1_000.0),
        (Fact.WAITS_FOR_EVENT, "paid", "b", ((1, 2),), 1_000.0),
    ]
