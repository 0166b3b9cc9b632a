"""For any bytes on a topic, a decoder returns a message or raises Undecodable, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.wire.codec import GROUPS, RUNS, TASKS, Codec, Undecodable, encode, split
from anabranch.core.wire.messages import Nudge

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "wire").glob("*.bin"))
CODECS = [pytest.param(RUNS, id="runs"), pytest.param(GROUPS, id="groups"), pytest.param(TASKS, id="tasks")]

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abtv$", max_size=3), inner)
)


def is_message_or_undecodable(codec: Codec[Any], record: bytes) -> None:
    """A decoded message can be encoded, and is decoded to the same again."""
    try:
        found = codec.decode(record)
    except Undecodable:
        return
    assert sum(map(len, found.segments)) == len(record.partition(b"\n")[2])
    assert codec.decode(encode(found.message, found.segments)) == found


@st.composite
def pinned_headers(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a pinned record."""
    line, _, payload = draw(st.sampled_from(GOLDEN)).read_bytes().partition(b"\n")
    try:
        return orjson.loads(line), payload
    except orjson.JSONDecodeError:  # the pinned headers of CloudEvents are no record
        return {"v": 1, "type": "nudge"}, b""


@st.composite
def changed_records(draw: st.DrawFn) -> bytes:
    """A pinned record where one field holds anything, at the top or further in."""
    header, payload = draw(pinned_headers())
    node: Any = header
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], (dict, list)) and node[key] and draw(st.booleans()):
            node = node[key]
            continue
        node[key] = draw(documents)
        return orjson.dumps(header) + (b"\n" + payload if payload or draw(st.booleans()) else b"")


@st.composite
def flipped_records(draw: st.DrawFn) -> bytes:
    """A pinned record with some bytes changed, and perhaps cut off."""
    record = bytearray(draw(st.sampled_from(GOLDEN)).read_bytes())
    for position in draw(st.lists(st.integers(0, len(record) - 1), max_size=3)):
        record[position] = draw(st.integers(0, 255))
    return bytes(record[: draw(st.integers(0, len(record)))])


@pytest.mark.parametrize("codec", CODECS)
@given(record=st.binary() | documents.map(orjson.dumps))
def test_arbitrary_bytes(codec: Codec[Any], record: bytes) -> None:
    is_message_or_undecodable(codec, record)


@pytest.mark.parametrize("codec", CODECS)
@given(record=changed_records())
def test_a_record_with_a_field_of_any_kind(codec: Codec[Any], record: bytes) -> None:
    is_message_or_undecodable(codec, record)


@pytest.mark.parametrize("codec", CODECS)
@given(record=flipped_records())
def test_a_damaged_record(codec: Codec[Any], record: bytes) -> None:
    is_message_or_undecodable(codec, record)


@given(segments=documents, payload=st.binary(max_size=20))
def test_any_list_of_segments_before_any_payload(segments: Any, payload: bytes) -> None:
    record = orjson.dumps({"v": 1, "type": "nudge", "segments": segments}) + b"\n" + payload
    try:
        _, found = split(record)
    except Undecodable:
        return
    assert b"".join(found) == payload
    assert [len(each) for each in found] == segments


@given(segments=st.lists(st.binary(max_size=30), max_size=5), silence=st.floats(0, 1e6))
def test_segments_come_back_whatever_is_in_them(segments: list[bytes], silence: float) -> None:
    nudge = Nudge(run_id="r", silent_for=silence)

    found = GROUPS.decode(encode(nudge, segments))

    assert (found.message, found.segments) == (nudge, tuple(segments))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"v":1,"segments":"ab"}', b"ab"),
        (b'{"v":1,"segments":{"1":1}}', b"a"),
        (b'{"v":1,"segments":null}', b""),
        (b'{"v":1,"segments":2}', b"ab"),
        (b'{"v":1,"segments":[-1,3]}', b"ab"),
        (b'{"v":1,"segments":[1.0,1]}', b"ab"),
        (b'{"v":1,"segments":[true,1]}', b"ab"),
        (b'{"v":1,"segments":["2"]}', b"ab"),
        (b'{"v":1,"segments":[1]}', b"ab"),
        (b'{"v":1,"segments":[3]}', b"ab"),
        (b'{"v":1,"segments":[18446744073709551615]}', b"ab"),
        (b'{"v":1}', b"ab"),
    ],
)
def test_segments_that_do_not_fit_are_undecodable(header: bytes, payload: bytes) -> None:
    with pytest.raises(Undecodable, match="segments"):
        split(header + b"\n" + payload)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\n",
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b'{"v":1,"type":"\xff"}',
        b'{"v":1,"type":"\\ud800"}',
        b"[" * 100_000,
        b'{"v":1,"x":1e999}',
        b"[]",
        b"null",
        b'{"v":1} {"v":1}',
    ],
)
def test_what_is_no_json_object_in_utf8_is_undecodable(record: bytes) -> None:
    with pytest.raises(Undecodable):
        RUNS.decode(record)


def test_segments_announced_without_a_payload_are_undecodable() -> None:
    with pytest.raises(Undecodable, match="announces segments of 3 bytes, but the payload has 0 bytes"):
        split(b'{"v":1,"segments":[3]}')
