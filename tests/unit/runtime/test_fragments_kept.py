"""Fragments at an owner: where its successor starts to read, and what happens to incomplete messages."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.wire.codec import encode
from anabranch.core.wire.fragments import EXPIRY_SECONDS, Assembler, fragments_of
from anabranch.core.wire.messages import ValueFound
from anabranch.ports import Incoming
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard
from anabranch.runtime.ownership.replay import Replay

ROOM = 1_200


def message(number: int, size: int = 2_500) -> bytes:
    return encode(ValueFound(run_id=f"r{number}", key="k", value="x" * size))


def feed(assembler: Assembler, records: Sequence[bytes], first: int = 0, at: float = 0.0) -> list[int]:
    """The offsets of records that were fragments or completed a message."""
    whole = [assembler.whole(value, first + number, at) for number, value in enumerate(records)]
    return [first + number for number, value in enumerate(whole) if value is not records[number]]


def test_a_successor_starts_at_the_first_fragment_of_the_oldest_needed_message() -> None:
    pieces = fragments_of(message(1), ROOM)
    assembler = Assembler()

    assert feed(assembler, [b"other", *pieces, b"other"]) == [3]

    assert len(pieces) == 3
    assert assembler.begin(3) == 1, "the message at offset 3 began at 1"
    assert assembler.begin(4) == 4, "nobody needs it any more"


@given(st.data())
def test_a_replay_from_there_has_every_needed_message(data: st.DataObject) -> None:
    """Messages with interleaved fragments, and an oldest needed message that ascends."""
    queues = [fragments_of(message(number), ROOM) for number in range(data.draw(st.integers(1, 4)))]
    records: list[bytes] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        records.append(queue.pop(0))
    assembler = Assembler()
    ends = feed(assembler, records)

    for oldest in sorted(data.draw(st.sets(st.integers(0, len(records)), min_size=1))):
        begin = assembler.begin(oldest)
        found = feed(Assembler(), records[begin:], begin)
        assert set(found) >= {end for end in ends if end >= oldest}


def test_a_message_that_was_cut_again_for_another_limit_is_not_mixed_with_the_first_cut() -> None:
    value = message(1)
    wide, narrow = fragments_of(value, 1_600), fragments_of(value, ROOM)
    assert len(wide) == 2 < len(narrow) == 3
    assembler = Assembler()

    whole = [assembler.whole(each, offset, 0.0) for offset, each in enumerate([wide[0], *narrow])]

    assert whole == [wide[0], *narrow[:2], value]


def owned() -> OwnedPartition[None]:
    return OwnedPartition.claimed_now(
        0,
        None,
        Replay(0, 0, False),
        0,
        0,
        "store",
        PoisonRecordGuard(None, "key"),  # type: ignore[arg-type]  # it is not asked
        None,
        is_marked=True,
        loss_window=5.0,
        rebuild_window=10.0,
        now=0.0,
    )


def record(value: bytes, offset: int, at: float) -> Incoming:
    return Incoming("t", 0, offset, b"s", value, (), at)


def test_a_fragment_without_the_others_is_dropped_although_no_other_fragment_follows() -> None:
    """A reader that starts amid a message gets only its end, which must not hold the replay start for ever."""
    partition = owned()
    last = fragments_of(message(1), ROOM)[-1]

    partition.assembled([record(last, 7, 100.0)])
    assert partition.fragments.begin(9) == 7

    partition.assembled([record(b"other", 8, 101.0 + EXPIRY_SECONDS)])
    assert partition.fragments.begin(9) == 9


def test_a_message_is_whole_though_the_batch_that_ends_it_also_ends_its_time() -> None:
    partition = owned()
    *first, last = fragments_of(message(1), ROOM)
    partition.assembled([record(each, offset, 0.0) for offset, each in enumerate(first)])

    late = [record(last, 7, EXPIRY_SECONDS - 1), record(b"other", 8, EXPIRY_SECONDS + 1)]

    assert partition.assembled(late)[0].value == message(1)
