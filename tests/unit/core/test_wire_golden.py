"""The wire format is pinned: each record in tests/golden/wire is what is written, byte for byte, and read back.

A running system has such records in its topics, and old services beside new ones. A test here that fails
after a change of a message means: the change is no upgrade that a rolling deployment survives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest
from pydantic import BaseModel
from wire_samples import AT, REQUEST, RUN, SAMPLES, SESSION, TRACE
from wire_tracebacks import FAILED, WITH_TRACEBACKS

from anabranch.core.errors import Problem
from anabranch.core.wire import messages as m
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import GROUPS, RUNS, TASKS, WIRE_VERSION, Codec, Undecodable, encode
from anabranch.core.wire.events import EventBatch, EventEntry, decode_batch, encode_batch
from anabranch.core.wire.results import (
    CostsOfRun,
    CostsOfTask,
    Reference,
    ResultPublished,
    ResultRecord,
    RunAccepted,
    RunFinal,
    RunRejected,
    StoppedBy,
)
from contract.catalog import INNER_MESSAGES, SCHEMAS, kebab

GOLDEN = Path(__file__).parents[2] / "golden" / "wire"
PREVIOUS = GOLDEN / "previous"
"""As the version before this one wrote them."""

COMMON: Mapping[str, Any] = {"request_id": REQUEST, "run_id": RUN, "session_id": SESSION}
TIMES: Mapping[str, Any] = {"accepted_at": "2030-01-31T03:00:00.000Z"}

RECORDS: Mapping[str, ResultRecord] = {
    "run-accepted": RunAccepted(
        **COMMON,
        **TIMES,
        name="nightly",
        labels={"team": "data"},
        deadline="2030-01-31T05:00:00.000Z",
        task_groups=2,
        tasks=3,
        retry_of="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
    ),
    "run-rejected": RunRejected(
        request_id=None,
        run_id=None,
        session_id=None,
        errors=(Problem("cycle", "/task_groups/0", "a -> b -> a", "take one out"),),
        warnings=("careful",),
    ),
    "result-published": ResultPublished(
        **COMMON, group="fetch", task_name="page ü", result_key="text", version=4711, value=["a", None]
    ),
    "run-final": RunFinal(
        **COMMON,
        **TIMES,
        status="failed",
        results={"text": Reference.to(SESSION, "text", count=2, size=81_920, run_id=RUN).to_document()},
        failures=(m.Failure(group="fetch", task="page ü", index=4, error_type="E", message="no", attempts=4),),
        failure_count=1,
        all_failures=Reference.to(SESSION, "failures", count=1, size=120),
        executions=m.Counts(total=2, completed=1, failed=1),
        ended_at="2030-01-31T03:00:04.250Z",
        duration_seconds=4.25,
        retry_of="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
        taken_over=1,
        handled_failures=2,
        skipped=(m.SkippedTask(group="fetch", task="page ü", reason="branch", because="case 1"),),
        costs=CostsOfRun(
            usd=1.25,
            tokens=400,
            seconds=2.5,
            executions=12,
            tasks=(CostsOfTask(group="fetch", task="page ü", usd=1.25, tokens=400, seconds=2.5, executions=12),),
        ),
        stopped_by=StoppedBy(action="terminate", by="Ada", reason="enough", at="2030-01-31T03:00:04.250Z"),
    ),
    "run-final-traceback": RunFinal(
        **COMMON,
        **TIMES,
        status="failed",
        results={},
        failures=(m.Failure(group="fetch", task="page ü", index=4, attempts=4, **FAILED),),
        failure_count=1,
        ended_at="2030-01-31T03:00:04.250Z",
        duration_seconds=4.25,
    ),
}

BATCH = EventBatch(
    run_id=RUN,
    request_id=REQUEST,
    session_id=SESSION,
    source="groups",
    entries=(
        EventEntry(type="task.expanded", cause=42, time=AT, group="fetch", task="page ü", data={"count": 3}),
        EventEntry(
            type="task.started", cause=43, time=AT, group="fetch", task="page ü", spans=((0, 3),), attempt=1
        ),
        EventEntry(type="run.completed", cause=44, time=AT, data={"status": "completed"}),
    ),
)

MESSAGES = [pytest.param(cls, id=cls.__name__) for cls in INNER_MESSAGES]


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def golden_message(cls: type[m.Message]) -> bytes:
    return golden(f"{kebab(cls.__name__)}.bin")


def codecs_of(cls: type[m.Message]) -> list[Codec[Any]]:
    """The codecs of the topics on which the message may stand."""
    if cls is m.Offer:
        return [TASKS]
    both = {m.TimerDue, m.Snapshot, m.ClaimPartition, m.Fragment, m.GrantAnswer, m.CheckGrant}
    on_runs = {
        m.SubmitRun,
        m.SubmitChild,
        m.ControlChild,
        m.ControlRun,
        m.GroupResults,
        m.GroupFinished,
        m.PhaseBegan,
        m.FailRun,
        m.RunUnknown,
        m.RunOverdue,
        m.PublishEvent,
        m.OpenEventWait,
        m.CloseEventWait,
        m.AnswerEvent,
        m.WantGrant,
        m.ReturnGrant,
        m.HoldLimit,
        m.ControlSchedule,
        m.FiringStarted,
        m.FiringEnded,
        m.SetBreaker,
    } | both
    return [codec for codec, here in ((RUNS, cls in on_runs), (GROUPS, cls not in on_runs - both)) if here]


def with_header(record: bytes, **changes: Any) -> bytes:
    """The record with some fields of its header set; None takes one out."""
    line, newline, payload = record.partition(b"\n")
    header = {name: value for name, value in (orjson.loads(line) | changes).items() if value is not None}
    return orjson.dumps(header) + newline + payload


# --- the inner messages --------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_message_is_written_as_pinned(cls: type[m.Message]) -> None:
    message, segments = SAMPLES[cls]

    assert encode(message, segments) == golden_message(cls)


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_record_of_the_previous_version_is_read(cls: type[m.Message]) -> None:
    """A cluster that is upgraded process by process has both on its topics; `make upgrade-test` runs both."""
    path = PREVIOUS / f"{kebab(cls.__name__)}.bin"
    if not path.exists():  # the previous version has no such message
        return
    message, segments = SAMPLES[cls]
    for codec in codecs_of(cls):
        found = codec.decode(path.read_bytes())

        assert type(found.message) is cls
        assert found.segments == segments
        for name in found.message.model_fields_set:
            assert getattr(found.message, name) == getattr(message, name)


def test_no_message_of_the_previous_version_is_gone() -> None:
    assert [path.name for path in PREVIOUS.iterdir() if not (GOLDEN / path.name).exists()] == []


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_pinned_record_is_read_as_the_message_on_each_of_its_topics(cls: type[m.Message]) -> None:
    for codec in codecs_of(cls):
        found = codec.decode(golden_message(cls))

        assert (found.message, found.segments) == SAMPLES[cls]
        assert type(found.message) is cls


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_sample_sets_every_field_so_that_none_is_unpinned(cls: type[m.Message]) -> None:
    header = orjson.loads(golden_message(cls).partition(b"\n")[0])
    left_out = cls.model_fields.keys() - header.keys()

    # Nothing failed to be counted where something was: the two exclude each other.
    assert left_out == ({"count"} if cls is m.ArrayCounted else set())


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_field_of_a_later_version_is_ignored(cls: type[m.Message]) -> None:
    record = with_header(golden_message(cls), added_later={"x": 1})

    for codec in codecs_of(cls):
        found = codec.decode(record)
        assert (found.message, found.segments) == SAMPLES[cls]


@pytest.mark.parametrize("cls", MESSAGES)
@pytest.mark.parametrize("version", [WIRE_VERSION + 1, 0, None, "1", True, 1.0])
def test_another_wire_version_is_refused(cls: type[m.Message], version: object) -> None:
    record = with_header(golden_message(cls), v=version)

    for codec in codecs_of(cls):
        with pytest.raises(Undecodable, match="wire version 1 is expected"):
            codec.decode(record)


def test_a_group_started_by_a_version_without_a_chunk_maximum_is_read() -> None:
    found = GROUPS.decode(with_header(golden_message(m.StartGroup), most_chunks=None))

    assert found.message == SAMPLES[m.StartGroup][0].model_copy(update={"most_chunks": None})


def test_a_report_of_a_version_without_starts_of_later_attempts_is_read() -> None:
    found = GROUPS.decode(with_header(golden_message(m.MembersReported), restarted=None))

    assert isinstance(found.message, m.MembersReported)
    assert found.message.restarted == ()


def test_a_report_by_a_version_whose_agents_logged_nothing_is_read() -> None:
    found = GROUPS.decode(with_header(golden_message(m.MembersReported), logs=None))

    assert found.message == SAMPLES[m.MembersReported][0].model_copy(update={"logs": ()})


def test_a_run_opened_by_a_version_without_policies_is_read() -> None:
    found = GROUPS.decode(with_header(golden_message(m.OpenRun), shared=None, submitted_at=None))

    assert found.message == SAMPLES[m.OpenRun][0].model_copy(update={"shared": {}, "submitted_at": None})


def test_a_run_opened_by_a_version_that_reserved_no_keys_is_read() -> None:
    found = GROUPS.decode(with_header(golden_message(m.OpenRun), reserved_keys=None))

    assert found.message == SAMPLES[m.OpenRun][0].model_copy(update={"reserved_keys": ()})


@pytest.mark.parametrize("name", WITH_TRACEBACKS)
def test_tracebacks_are_written_and_read_as_pinned(name: str) -> None:
    codec = RUNS if name.startswith("group-finished") else GROUPS

    assert encode(WITH_TRACEBACKS[name]) == golden(f"{name}.bin")
    assert codec.decode(golden(f"{name}.bin")).message == WITH_TRACEBACKS[name]


@pytest.mark.parametrize("cls", [m.OpenRun, m.StartGroup, m.StopRun, m.PauseRun, m.GroupResults, m.GroupFinished])
def test_a_message_of_a_version_without_admissions_is_read(cls: type[m.Message]) -> None:
    [codec] = codecs_of(cls)

    found = codec.decode(with_header(golden_message(cls), admission=None))

    left_out = cls.model_fields["admission"].default
    assert found.message == SAMPLES[cls][0].model_copy(update={"admission": left_out})


def test_fields_of_a_later_version_are_ignored_inside_a_message_too() -> None:
    header = orjson.loads(golden_message(m.GroupFinished))
    header["failures"][0]["added_later"] = header["counts"]["added_later"] = 1

    assert RUNS.decode(orjson.dumps(header)).message == SAMPLES[m.GroupFinished][0]


@pytest.mark.parametrize("cls", MESSAGES)
def test_a_message_is_refused_on_a_topic_where_it_does_not_belong(cls: type[m.Message]) -> None:
    for codec in (RUNS, GROUPS, TASKS):
        if codec not in codecs_of(cls):
            with pytest.raises(Undecodable, match="not a message of this topic"):
                codec.decode(golden_message(cls))


# --- results, events, headers --------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_a_result_record_is_written_and_read_as_pinned(name: str) -> None:
    record = RECORDS[name]

    assert orjson.dumps(record.to_document()) == golden(f"{name}.bin")
    assert type(record).model_validate_json(golden(f"{name}.bin")) == record
    assert type(record).model_validate(orjson.loads(golden(f"{name}.bin")) | {"added_later": 1}) == record


def test_a_batch_of_events_is_written_and_read_as_pinned() -> None:
    assert encode_batch(BATCH) == golden("events.bin")
    assert decode_batch(golden("events.bin")) == BATCH
    assert decode_batch(with_header(golden("events.bin"), added_later=1)) == BATCH


@pytest.mark.parametrize("subject", [RUN, None])
def test_cloud_events_headers_are_written_as_pinned(subject: str | None) -> None:
    name = "cloud-event-headers.bin" if subject else "cloud-event-headers-rejected.bin"

    headers = cloud_event_headers(
        "run.completed" if subject else "run.rejected",
        f"{RUN}/final" if subject else "anabranch.requests/3/1204/rejected",
        AT,
        subject=subject,
        traceparent=TRACE if subject else None,
    )

    assert b"".join(b"%s: %s\n" % (key.encode(), value) for key, value in headers.items()) == golden(name)


@pytest.mark.parametrize("cls", [*MESSAGES, *(type(record) for record in RECORDS.values()), EventBatch])
def test_a_pinned_record_is_valid_by_its_published_schema(cls: type[BaseModel]) -> None:
    name = "events" if cls is EventBatch else kebab(cls.__name__)
    document = orjson.loads(golden(f"{name}.bin").partition(b"\n")[0])

    jsonschema.validate(document, SCHEMAS[cls.__name__].build(), cls=jsonschema.Draft202012Validator)


def test_no_pinned_record_is_without_a_test() -> None:
    pinned = {path.stem for path in GOLDEN.glob("*.bin")}

    assert set(SAMPLES) == set(INNER_MESSAGES)
    assert pinned == {
        *(kebab(cls.__name__) for cls in INNER_MESSAGES),
        *RECORDS,
        *WITH_TRACEBACKS,
        "events",
        "cloud-event-headers",
        "cloud-event-headers-rejected",
    }
