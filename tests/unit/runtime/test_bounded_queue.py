"""The bounded queue keeps order, and is full by number or by bytes; a single large record is always accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.ports import Incoming
from anabranch.runtime.ownership.bounded_queue import MAX_BYTES, TURN_BYTES, BoundedQueue


def record(offset: int, size: int = 0) -> Incoming:
    return Incoming("t", offset % 3, offset, None, b"x" * size, (), 0.0)


@given(st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["take", "drop"]))))
def test_records_come_out_in_the_order_in_which_they_went_in(steps: list[int | str]) -> None:
    queue, model, offset = BoundedQueue(10), list[int](), 0
    for step in steps:
        if isinstance(step, int):
            queue.extend(record(offset + at) for at in range(step))
            model += range(offset, offset + step)
            offset += step
        elif step == "take":
            taken = [each.offset for each in queue.take(3)]
            assert taken == model[:3]
            del model[:3]
        else:
            queue.retain(lambda each: each.partition != 0)
            model = [each for each in model if each % 3]
        assert len(queue) == len(model)
        assert queue.is_long == (len(model) > 10)
        assert queue.is_short == (len(model) <= 2)


def test_few_large_records_fill_the_queue_and_are_taken_a_few_at_a_time() -> None:
    queue = BoundedQueue(1_000)
    size = TURN_BYTES // 2 + 1
    count = MAX_BYTES // size + 1
    queue.extend(record(offset, size) for offset in range(count))

    assert queue.is_long
    assert [each.offset for each in queue.take(100)] == [0, 1]
    while len(queue) > 0:
        queue.take(1)
    assert (queue.is_long, queue.is_short) == (False, True)


@pytest.mark.parametrize("size", [TURN_BYTES, 10 * TURN_BYTES])
def test_a_record_of_any_size_is_accepted(size: int) -> None:
    queue = BoundedQueue(1)
    queue.extend([record(0, size), record(1)])

    assert [each.offset for each in queue.take(9)] == [0]
    assert [each.offset for each in queue.take(9)] == [1]
    assert queue.take(9) == []
