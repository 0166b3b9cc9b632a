"""Messages larger than a record: cut at the limit, assembled from any copies, dropped if incomplete."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import SAMPLES

from anabranch.core.wire.codec import encode
from anabranch.core.wire.fragments import EXPIRY_SECONDS, HEADER_BYTES, Assembler, fragments_of, is_fragment
from anabranch.core.wire.messages import Fragment

ROOM = 1_000
PIECE = ROOM - HEADER_BYTES


def fragment(message_id: str, number: int, count: int, piece: bytes = b"x") -> bytes:
    return encode(Fragment(message_id=message_id, number=number, count=count), [piece])


@pytest.mark.parametrize(
    ("size", "count"), [(PIECE - 1, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3), (3 * PIECE + 1, 4)]
)
def test_a_value_is_cut_into_as_few_records_as_hold_it(size: int, count: int) -> None:
    value = Random(size).randbytes(size)

    pieces = fragments_of(value, ROOM)

    assert len(pieces) == count
    assert max(map(len, pieces)) <= ROOM
    assembler = Assembler()
    assert [assembler.whole(each, at, 0.0) for at, each in enumerate(pieces)][-1] == value
    assert assembler.begin(99) == 99


def test_a_record_without_room_for_a_fragment_is_refused() -> None:
    with pytest.raises(ValueError, match="200 bytes"):
        fragments_of(b"x" * 500, HEADER_BYTES)


def test_no_other_message_looks_like_a_fragment() -> None:
    begin_so = [kind.__name__ for kind, (message, parts) in SAMPLES.items() if is_fragment(encode(message, parts))]

    assert begin_so == ["Fragment"]


@given(st.lists(st.binary(min_size=1, max_size=4_000), min_size=1, max_size=4, unique=True), st.randoms())
def test_copies_of_several_messages_in_any_order_are_whole_again(values: list[bytes], dice: Random) -> None:
    """Publishers send a message again after a failure, and several publishers send at once."""
    values = [b"m" + value for value in values]
    records = [piece for value in values for piece in fragments_of(value, 400) * dice.choice([1, 2, 3])]
    dice.shuffle(records)
    assembler = Assembler()

    found = [assembler.whole(each, offset, 0.0) for offset, each in enumerate(records)]

    assert {each for each in found if not is_fragment(each)} == set(values)


def test_the_oldest_offset_is_that_of_the_first_fragment_which_waits() -> None:
    one, two = fragments_of(b"1" * 2_000, ROOM), fragments_of(b"2" * 2_000, ROOM)
    assembler = Assembler()

    for offset, value in enumerate([one[0], two[0], one[1]], 7):
        assembler.whole(value, offset, 0.0)
    assert assembler.begin(10) == 7
    assembler.whole(one[2], 10, 0.0)
    assert assembler.begin(11) == 8


@pytest.mark.parametrize(("later", "begin"), [(EXPIRY_SECONDS, 7), (EXPIRY_SECONDS + 1, 9)])
def test_an_incomplete_message_is_dropped_after_a_while(later: float, begin: int) -> None:
    assembler = Assembler()
    assembler.whole(fragments_of(b"1" * 2_000, ROOM)[0], 7, 100.0)

    assembler.expire(100.0 + later)

    assert assembler.begin(9) == begin


MALFORMED = [
    b'{"message_id":',
    b'{"message_id":"a","number":0,"count":1,"type":"fragment","v":1}',
    encode(Fragment(message_id="a", number=0, count=1), [b"x", b"y"]),
    fragment("a", 2, 2),
    fragment("a", -1, 2),
    fragment("a", 0, 0),
]


@pytest.mark.parametrize("value", MALFORMED)
def test_a_message_that_only_looks_like_a_fragment_stays_unchanged(value: bytes) -> None:
    assembler = Assembler()

    assert assembler.whole(value, 0, 0.0) == value
    assert assembler.begin(99) == 99


def test_fragments_that_disagree_on_their_number_are_not_put_together() -> None:
    """The first count wins: a different one would leave a gap."""
    assembler = Assembler()
    other = fragment("a", 5, 6)

    assert assembler.whole(fragment("a", 0, 2, b"1"), 0, 0.0) == fragment("a", 0, 2, b"1")
    assert assembler.whole(other, 1, 0.0) == other
    assert assembler.whole(fragment("a", 1, 2, b"2"), 2, 0.0) == b"12"
