"""Projects on Kafka: owners of sessions, refusals and dead letters, and the Agency's refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, request, task

from anabranch.core.names import run_id_for
from anabranch.core.project import session_problem
from anabranch.core.wire import dead_letters
from anabranch.dead_letters.reader import DeadLetter, read_dead_letters
from anabranch.ports import Incoming, Outgoing, Write
from anabranch.testing import System

GOOD = request(task("t", inputs=1))
SECRET = "the bank's secret"


def send(s: System, *documents: Any) -> None:
    """Put records on one partition of the requests topic, and wait until they have been handled."""
    topic = s.embedded.names.requests
    values = [each if isinstance(each, bytes) else orjson.dumps(each) for each in documents]
    s.wait(s.embedded.log.publish([Outgoing(topic, None, value, partition=0) for value in values]))
    s.advance(5)


def bodies(s: System, status: str) -> list[dict[str, Any]]:
    found = [orjson.loads(record.value) for record in s.records("results")]
    return [body for body in found if body["status"] == status]


def codes(s: System) -> list[str]:
    return [error["code"] for body in bodies(s, "rejected") for error in body["errors"]]


def dead_letters_of(s: System) -> list[DeadLetter]:
    found: list[DeadLetter] = s.wait(read_dead_letters(s.embedded.log, s.embedded.names))
    return found


# --- sessions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", ["default", "bank"])
def test_the_session_of_a_future_run_cannot_be_claimed(
    anabranch_system: Callable[..., System], project: str
) -> None:
    """A caller who guesses a request id knows its run id, which is also the session id."""
    s = anabranch_system()
    squatted = run_id_for("shop's next")

    send(s, {**GOOD, "request_id": "squat", "session_id": squatted, "project": project})
    send(s, {**GOOD, "request_id": "shop's next", "project": "shop"})

    assert codes(s) == ["session_of_another_project"]
    assert bodies(s, "rejected")[0]["request_id"] == "squat"
    assert [body["request_id"] for body in bodies(s, "completed")] == ["shop's next"]


def test_only_the_project_of_a_run_may_use_the_session_of_the_run(
    anabranch_system: Callable[..., System],
) -> None:
    s = anabranch_system()
    send(s, {**GOOD, "request_id": "first", "project": "shop"})
    own = run_id_for("first")

    send(
        s,
        {**GOOD, "request_id": "theirs", "session_id": own},
        {**GOOD, "request_id": "more", "session_id": own, "project": "shop"},
    )

    assert {body["request_id"] for body in bodies(s, "completed")} == {"first", "more"}
    assert [body["request_id"] for body in bodies(s, "rejected")] == ["theirs"]


def test_a_run_whose_own_session_belongs_to_another_project_is_refused_with_a_clear_error(
    anabranch_system: Callable[..., System],
) -> None:
    """Regression: the refusal looked up a session id that the request does not have."""
    s = anabranch_system()
    names, store = s.embedded.names, s.embedded.store
    key = names.session_project(run_id_for("taken"))
    s.wait(store.put([Write(key, b"bank", 3600)]))

    send(s, {**GOOD, "request_id": "taken", "project": "shop"})

    [rejected] = bodies(s, "rejected")
    [error] = rejected["errors"]
    assert (error["code"], error["path"]) == ("session_of_another_project", "/request_id")
    alive(s)


def test_naming_the_session_of_the_requests_own_id_claims_nothing(anabranch_system: Callable[..., System]) -> None:
    """Another project may win the request id, and then the session is its own."""
    s = anabranch_system()

    send(s, {**GOOD, "request_id": "r", "session_id": run_id_for("r"), "project": "bank"})

    [claim] = s.wait(s.embedded.store.get([s.embedded.names.session_project(run_id_for("r"))]))
    assert [body["request_id"] for body in bodies(s, "completed")] == ["r"]
    assert claim is None


def test_a_refusal_reveals_nothing_about_the_session_of_another_project(
    anabranch_system: Callable[..., System],
) -> None:
    s = anabranch_system()
    send(s, {**GOOD, "session_id": "s", "project": "shop", "context": {"secret": 1}})
    probe = request(task("p", dependencies=["secret"]), request_id="p", session_id="s", project="bank")

    send(s, probe)

    assert codes(s) == ["unknown_dependency"]


@pytest.mark.parametrize(
    ("session_id", "claimed_by", "run_project", "is_free"),
    [
        ("s", None, None, True),
        ("s", "shop", None, True),
        ("s", "bank", None, False),
        (run_id_for("r"), None, None, False),
        (run_id_for("r"), None, "shop", True),
        (run_id_for("r"), "shop", "bank", False),
        (run_id_for("r"), "bank", "shop", True),
        (run_id_for("r"), "shop", None, True),
    ],
)
def test_a_session_is_free_or_belongs_to_its_claimant_or_to_the_run_with_its_id(
    session_id: str, claimed_by: str | None, run_project: str | None, is_free: bool
) -> None:
    problem = session_problem(session_id, "shop", claimed_by=claimed_by, run_project=run_project)

    assert (problem is None) is is_free


# --- refusals and dead letters ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "project"),
    [
        ({"request_id": "r", "project": "bank", "task_groups": 7}, "bank"),
        ({"request_id": "r", "project": "a b", "task_groups": 7}, "default"),
        ({"request_id": "r", "project": 7}, "default"),
        ({"request_id": "r"}, "default"),
        ({"key": "task_group:r", "action": "initialize", "object": {"project": "bank", "task_groups": 7}}, "bank"),
        ({"type": "order", "request_id": "r"}, "default"),
        ({"type": "cancel", "project": "bank"}, "bank"),
    ],
)
def test_a_refused_request_belongs_to_the_project_that_it_names(
    anabranch_system: Callable[..., System], document: dict[str, Any], project: str
) -> None:
    s = anabranch_system()

    send(s, document)

    [rejected] = bodies(s, "rejected")
    [dead_letter] = dead_letters_of(s)
    assert rejected["project"] == project
    assert dead_letter.project == project


def test_a_request_refused_by_the_runs_owner_belongs_to_the_project_that_it_names(
    anabranch_system: Callable[..., System],
) -> None:
    """Another project has used the request id: its operators must not get to see the body."""
    s = anabranch_system()
    send(s, {**GOOD, "request_id": "r", "project": "shop"})

    send(s, {**GOOD, "request_id": "r", "project": "bank", "context": {"pin": SECRET}})
    send(s, {"type": "retry", "request_id": "r", "failed": True, "new_request_id": "again"})

    assert codes(s) == ["request_id_conflict", "not_retryable"]
    assert [body["project"] for body in bodies(s, "rejected")] == ["bank", "shop"]
    assert [dead_letter.project for dead_letter in dead_letters_of(s)] == ["bank", "shop"]


def test_the_project_of_a_dead_letter_comes_from_its_writer_and_not_from_the_original() -> None:
    ours = (("anabranch_code", b"schema"), ("anabranch_reason", b"no"), ("anabranch_project", b"bank"))
    theirs = (("anabranch_code", b"x"), ("anabranch_project", b"shop"))
    without = (("anabranch_code", b"undecodable"), ("anabranch_id", b"t/0/1"))

    assert _dead_letter((*theirs, *ours)).project == "bank"
    assert _dead_letter((*theirs, *without)).project is None


def test_a_redrive_publishes_the_original_without_the_dead_letter_headers(
    anabranch_system: Callable[..., System],
) -> None:
    s = anabranch_system()
    topic, mine = s.embedded.names.requests, {"mine": b"1"}
    s.wait(s.embedded.log.publish([Outgoing(topic, None, b'{"task_groups": 7}', partition=0, headers=mine)]))
    s.advance(5)

    [dead_letter] = dead_letters_of(s)

    assert dead_letter.original_headers == (("mine", b"1"),)
    assert dead_letters.SIGNATURE in dict(dead_letter.record.headers)


@pytest.mark.parametrize("where", ["front", "owner"])
def test_an_internal_error_is_not_reported_as_a_schema_error(
    anabranch_system: Callable[..., System], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def buggy(*_: Any) -> Any:
        raise KeyError("session_id")

    monkeypatch.setattr(
        "anabranch_agency.intake.request_consumer.decide"
        if where == "front"
        else "anabranch_agency.run.actor._admit",
        buggy,
    )
    s = anabranch_system()

    send(s, {**GOOD, "request_id": "r", "project": "bank"})

    assert codes(s) == ["internal"]
    assert bodies(s, "rejected")[0]["project"] == "bank"


def _dead_letter(headers: tuple[tuple[str, bytes], ...]) -> DeadLetter:
    return DeadLetter(Incoming("dead-letters", 0, 1, None, b"{}", headers, 0.0), "", "", "", "")


# --- subscriptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channel",
    ["session:{s}:k", "anabranch.halt", "anabranch.pause", "other-product", "anabranch.sub:", "anabranch.sub:{s}"],
)
def test_events_are_forwarded_only_to_channels_of_their_project(
    anabranch_system: Callable[..., System], channel: str
) -> None:
    s = anabranch_system()
    send(s, {**GOOD, "session_id": "s"})

    send(s, {"type": "subscribe", "session_id": "s", "channel": channel})

    [refused] = bodies(s, "rejected")
    assert (refused["errors"][0]["code"], refused["errors"][0]["path"]) == ("bad_name", "/channel")
    assert b'"subscribe"' not in b"".join(record.value for record in s.records("events"))


@pytest.mark.parametrize(
    ("subscription", "is_taken"),
    [
        ({"session_id": "s", "project": "shop"}, True),
        ({"session_id": "s", "project": "bank"}, False),
        ({"session_id": "s"}, False),
        ({"session_id": "nobodys"}, False),
        ({"request_id": "r", "project": "shop"}, True),
        ({"request_id": "r"}, False),
        ({"request_id": "yet to come"}, True),
        ({"session_id": run_id_for("own"), "project": "shop"}, True),
        ({"session_id": run_id_for("own"), "project": "bank"}, False),
    ],
)
def test_a_subscription_needs_a_run_or_session_of_its_project(
    anabranch_system: Callable[..., System], subscription: dict[str, Any], is_taken: bool
) -> None:
    s = anabranch_system()
    send(s, {**GOOD, "request_id": "r", "session_id": "s", "project": "shop"})
    send(s, {**GOOD, "request_id": "own", "project": "shop"})

    send(s, {"type": "subscribe", "channel": "anabranch.sub:mine", **subscription})

    assert codes(s) == ([] if is_taken else ["session_of_another_project"])
    published = b"".join(record.value for record in s.records("events"))
    assert (b'"subscribe"' in published) is is_taken


def test_subscriptions_are_checked_again_when_an_event_is_forwarded(
    anabranch_system: Callable[..., System],
) -> None:
    """A subscription to a future run does not decide the run's project."""
    s = anabranch_system()
    received: list[str] = []
    for channel in ("bank", "shop"):
        name = f"anabranch.sub:{channel}"
        s.wait(s.embedded.notifier.subscribe(name, lambda _, channel=channel: received.append(channel)))
        send(s, {"type": "subscribe", "request_id": "r", "channel": name, "types": ["run.*"], "project": channel})

    send(s, {**GOOD, "request_id": "r", "project": "shop"})

    assert received == ["shop", "shop"]
