"""The event projection: documents from records, repetitions without effect, views, forwarding."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from eventmanager_records import WIDE, batch, cancelled_run, entry, subscribe, unsubscribe, wide_run
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.names import run_id_for
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.codec import Undecodable
from anabranch.core.wire.events import EventSequence, decode_batch
from anabranch_eventmanager.projection.decisions import Effect, EventProjection, RecordPosition, RunChanged
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_eventmanager.projection.subscriptions import Forward, is_wanted

Facts = dict[str, Document]


def _apply_all(values: Iterable[bytes], documents: Facts | None = None) -> tuple[Facts, list[Effect]]:
    documents = {} if documents is None else documents
    effects: list[Effect] = []
    for offset, value in enumerate(values):
        applied = EventProjection("ch").apply(
            documents, decode_record(value), RecordPosition(0, offset, float(offset))
        )
        documents.update(applied.writes)
        effects += applied.effects
    return documents, effects


def _forwarded(effects: Iterable[Effect], channel: str) -> list[dict[str, Any]]:
    return [
        orjson.loads(each.payload) for each in effects if isinstance(each, Forward) and each.channel == channel
    ]


def test_the_view_of_a_wide_run_counts_members() -> None:
    documents, _ = _apply_all(wide_run())

    view = build_view(documents["run/run-1"]).to_document()

    assert (view["status"], view["name"], view["labels"]) == ("failed", "demo", {"team": "a"})
    assert (view["submitted_at"], view["started_at"], view["ended_at"]) == (1, 10, 14)
    tasks = view["groups"]["g"]["tasks"]
    assert tasks["plain"] | {"status": "completed", "members": 1, "completed": 1} == tasks["plain"]
    wide = tasks["wide"]
    assert (wide["status"], wide["members"], wide["completed"], wide["failed"]) == ("failed", WIDE, WIDE - 3, 3)
    assert view["failure_count"] == 3
    first = view["failures"][0]
    assert (first["group"], first["task"], first["index"], first["attempts"]) == ("g", "wide", 7, 2)
    assert (first["error_type"], first["message"], first["time"]) == ("ValueError", "seven", 12)


def test_tasks_of_an_accepted_run_are_shown_waiting() -> None:
    documents, _ = _apply_all(wide_run()[:1])

    view = build_view(documents["run/run-1"]).to_document()

    assert view["status"] == "accepted"
    assert {name: task["status"] for name, task in view["groups"]["g"]["tasks"].items()} == {
        "plain": "waiting",
        "wide": "waiting",
    }


def test_open_tasks_of_a_cancelled_run_are_shown_as_cancelled() -> None:
    documents, _ = _apply_all(cancelled_run())

    view = build_view(documents["run/run-2"]).to_document()

    assert view["status"] == "cancelled"
    assert view["groups"]["g"]["status"] == "cancelled"
    assert view["groups"]["g"]["tasks"]["t"]["status"] == "cancelled"


@given(st.integers(min_value=0, max_value=6), st.integers(min_value=0, max_value=6))
def test_a_batch_of_redelivered_records_changes_nothing(start: int, stop: int) -> None:
    documents, _ = _apply_all(wide_run())
    before = copy.deepcopy(documents)

    effects: list[Effect] = []
    for offset, value in list(enumerate(wide_run()))[start:stop]:
        applied = EventProjection("ch").apply(documents, decode_record(value), RecordPosition(0, offset, 0.0))
        documents.update(applied.writes)
        effects += applied.effects

    assert documents == before
    assert effects == []


def test_applied_documents_are_not_changed_in_place() -> None:
    documents, _ = _apply_all(wide_run()[:4])
    before = copy.deepcopy(documents)

    EventProjection("ch").apply(documents, decode_record(wide_run()[5]), RecordPosition(0, 99, 0.0))

    assert documents == before


def test_a_run_never_leaves_its_final_status() -> None:
    late = batch("run-1", "groups", 99, entry("task.started", 99, "g", "late"))
    second_end = batch("run-1", "runs", 99, entry("run.completed", 99))

    documents, _ = _apply_all([*wide_run(), late, second_end])

    assert build_view(documents["run/run-1"]).to_document()["status"] == "failed"
    assert build_view(documents["run/run-1"]).to_document()["ended_at"] == 14


def test_a_member_that_completes_after_a_redrive_is_no_failure() -> None:
    documents, _ = _apply_all(wide_run())

    applied = EventProjection("ch").apply(
        documents,
        decode_record(batch("run-1", "groups", 50, entry("task.completed", 50, "g", "wide", index=7))),
        RecordPosition(0, 50, 50.0),
    )
    documents.update(applied.writes)

    view = build_view(documents["run/run-1"]).to_document()
    assert view["groups"]["g"]["tasks"]["wide"]["failed"] == 2
    assert [failure["index"] for failure in view["failures"]] == [WIDE - 2, WIDE - 1]


def test_failures_are_capped_and_counted() -> None:
    failed = [entry("task.failed", 5, "g", "t", index=i, error_type="E", message="m") for i in range(500)]

    documents, _ = _apply_all([batch("r", "groups", 5, entry("task.expanded", 5, "g", "t", count=500), *failed)])

    view = build_view(documents["run/r"]).to_document()
    assert len(view["failures"]) == 10
    assert view["failure_count"] == 500


def test_only_the_end_of_a_run_is_urgent() -> None:
    _, effects = _apply_all(wide_run())

    assert [each.urgent for each in effects if isinstance(each, RunChanged)] == [*[False] * 6, True]


def test_a_subscriber_gets_each_event_once_with_its_reading_order() -> None:
    records = wide_run()
    sequence = EventSequence()
    read = [event for value in records for event in sequence.read(decode_batch(value))]
    expected = [event | {"time": rfc3339(event["time"])} for event in read]

    _, effects = _apply_all([subscribe("ch", run_id="run-1"), *records])

    assert _forwarded(effects, "ch") == orjson.loads(orjson.dumps(expected))


def test_a_subscriber_gets_only_the_types_it_asked_for() -> None:
    _, effects = _apply_all([subscribe("ch", "run.*", "task.failed", run_id="run-1"), *wide_run()])

    assert [event["type"] for event in _forwarded(effects, "ch")] == [
        "run.accepted",
        *["task.failed"] * 3,
        "run.failed",
    ]


def test_a_session_is_subscribed_for_all_its_runs() -> None:
    _, effects = _apply_all(
        [subscribe("ch", "run.*", session_id="s-1"), *wide_run("a"), *wide_run("b"), *cancelled_run()]
    )

    assert [event["run_id"] for event in _forwarded(effects, "ch")] == ["a", "a", "b", "b"]


def test_a_channel_subscribed_to_a_run_and_its_session_gets_an_event_once() -> None:
    _, effects = _apply_all(
        [subscribe("ch", "run.*", session_id="s-1"), subscribe("ch", "run.failed", run_id="run-1"), *wide_run()]
    )

    assert [event["type"] for event in _forwarded(effects, "ch")] == ["run.accepted", "run.failed"]


@pytest.mark.parametrize("channel", ["ch", None])
def test_nothing_is_forwarded_after_unsubscribing(channel: str | None) -> None:
    end = orjson.dumps({"type": "unsubscribe", "run_id": "run-1", "channel": channel})

    _, effects = _apply_all([subscribe("ch", run_id="run-1"), end, *wide_run()])

    assert _forwarded(effects, "ch") == []


def test_another_channels_subscription_stays() -> None:
    _, effects = _apply_all(
        [
            subscribe("ch-one", run_id="run-1"),
            subscribe("ch-two", "run.*", run_id="run-1"),
            unsubscribe("ch-one", run_id="run-1"),
            *wide_run(),
        ]
    )

    assert _forwarded(effects, "ch-one") == []
    assert len(_forwarded(effects, "ch-two")) == 2


def test_a_run_can_be_subscribed_by_its_request_id() -> None:
    record = decode_record(subscribe("ch", request_id="order 1"))

    assert record.type == "subscribe"
    assert record.run() == run_id_for("order 1")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff", "not JSON"),
        (b"[]", "not a record"),
        (b'{"type": "other"}', "not a record"),
        (b'{"type": "subscribe", "channel": "c"}', "neither a run nor a session"),
        (b'{"type": "subscribe", "run_id": "r"}', "channel"),
        (b'{"type": "events", "run_id": "r"}', "session_id"),
    ],
)
def test_an_invalid_record_is_refused_with_the_reason(value: bytes, message: str) -> None:
    with pytest.raises(Undecodable, match=message):
        decode_record(value)


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ([], True),
        (["task.failed"], True),
        (["task.*"], True),
        (["*"], True),
        (["task"], False),
        (["run.*", "task.fail"], False),
    ],
)
def test_a_filter_is_exact_or_a_prefix(types: list[str], wanted: bool) -> None:
    assert is_wanted("task.failed", types) is wanted
