"""Requests that the agency cannot handle: each is refused and dead-lettered, and the next ones are processed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, request, task

from anabranch.core.names import Names
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.dead_letter import MAX_DEAD_LETTER_BYTES, dead_letter
from anabranch.testing import System
from anabranch_agency.intake.requests import decide

GOOD = request(task("t", inputs=1))


def send(s: System, *values: bytes) -> None:
    topic = s.embedded.names.requests
    s.wait(s.embedded.log.publish([Outgoing(topic, None, value, partition=0) for value in values]))
    s.advance(5)


def rejections(s: System) -> list[dict[str, Any]]:
    bodies = [orjson.loads(record.value) for record in s.records("results")]
    return [body for body in bodies if body["status"] == "rejected"]


def with_numbers_that_grow() -> bytes:
    """A million bytes of numbers that take four times as many when they are written out."""
    numbers = b",".join([b"1e15"] * 190_000)
    return orjson.dumps(GOOD | {"request_id": "bad"})[:-1] + b',"context":{"x":[' + numbers + b"]}}"


def with_unknown_fields() -> bytes:
    return orjson.dumps(GOOD | {"request_id": "bad"} | {f"f{i}": 0 for i in range(60_000)})


def with_ignored_fields() -> bytes:
    """An envelope whose unknown fields are listed in one warning."""
    inner = GOOD | {f"{'f' * 60}{i}": 0 for i in range(12_000)}
    return orjson.dumps({"key": "task_group:bad", "action": "initialize", "object": inner})


@pytest.mark.parametrize("bad", [with_numbers_that_grow, with_unknown_fields, with_ignored_fields])
def test_a_request_that_outgrows_a_record_does_not_stop_the_agency(
    anabranch_system: Callable[..., System], bad: Callable[[], bytes]
) -> None:
    s = anabranch_system()
    value = bad()

    send(s, value, orjson.dumps(GOOD | {"request_id": "good"}))

    finals = {orjson.loads(r.value)["request_id"] for r in s.records("results") if b'"ended_at"' in r.value}
    dead_letters = [record.value for record in s.records("dead-letters")]
    assert "good" in finals
    assert "bad" in finals or dead_letters == [value]
    alive(s)


def test_numbers_that_outgrow_a_record_are_refused_as_too_large(anabranch_system: Callable[..., System]) -> None:
    s = anabranch_system()

    send(s, with_numbers_that_grow())

    [rejected] = rejections(s)
    assert (rejected["request_id"], rejected["errors"][0]["code"]) == ("bad", "too_large")


def test_a_bug_in_admission_refuses_only_the_record_that_triggers_it(
    anabranch_system: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(context: Any, record: Incoming, *rest: Any) -> Any:
        if b"bad" in record.value:
            raise LookupError("a bug")
        return decide(context, record, *rest)

    monkeypatch.setattr("anabranch_agency.intake.request_consumer.decide", buggy)
    s = anabranch_system()
    bad = orjson.dumps(GOOD | {"request_id": "bad"})

    send(s, orjson.dumps(GOOD | {"request_id": "one"}), bad, orjson.dumps(GOOD | {"request_id": "two"}))

    finals = [orjson.loads(r.value) for r in s.records("results") if b'"ended_at"' in r.value]
    assert sorted(body["request_id"] for body in finals) == ["one", "two"]
    [rejected] = rejections(s)
    assert rejected["request_id"] == "bad"
    assert "LookupError: a bug" in rejected["errors"][0]["message"]
    assert [record.value for record in s.records("dead-letters")] == [bad]
    alive(s)


@pytest.mark.parametrize(
    ("value", "headers"),
    [(b"x" * 5_000_000, ()), (b"x" * 1_039_000, (("mine", b"y" * 5_000),)), (b"v", (("mine", b"y" * 2_000_000),))],
    ids=["compressed to fit", "the reason is too much", "headers"],
)
def test_a_dead_letter_of_a_too_large_record_is_truncated(
    value: bytes, headers: tuple[tuple[str, bytes], ...]
) -> None:
    record = Incoming("requests", 0, 7, b"k", value, headers, 0.0)

    record_of = dead_letter(Names("p."), record, "too large")

    sent_headers = dict(record_of.headers)
    size = len(record_of.value) + sum(len(name) + len(text or b"") for name, text in sent_headers.items())
    assert size <= MAX_DEAD_LETTER_BYTES
    assert sent_headers["anabranch_bytes"] == str(len(value)).encode()
    assert value.startswith(record_of.value)
    assert sent_headers["anabranch_origin"] == b"requests/0/7"


def test_a_dead_letter_keeps_all_headers_and_a_binary_key() -> None:
    headers = (("a", b"1"), ("b", None), ("a", b"2"), ("anabranch_code", b"theirs"), ("a", b""))
    record = Incoming("requests", 0, 7, b"\xff\xfe", b"{", headers, 0.0)

    record_of = dead_letter(Names("p."), record, "no JSON")

    assert tuple(record_of.headers)[: len(headers)] == headers
    assert dict(record_of.headers)["anabranch_code"] == b"undecodable", "a reader that wants one takes the last"
    assert (record_of.key, record_of.value) == (b"\xff\xfe", b"{")


@pytest.mark.parametrize(("is_null", "marker"), [(True, b"value"), (False, None)])
def test_a_dead_letter_distinguishes_a_null_value_from_an_empty_one(is_null: bool, marker: bytes | None) -> None:
    record_of = dead_letter(Names("p."), Incoming("requests", 0, 7, None, b"", (), 0.0, is_null), "no JSON")

    assert dict(record_of.headers).get("anabranch_null") == marker
