"""`DueQueue` against a dict of due times that is sorted each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.due import SLACK, DueQueue

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["schedule", "cancel", "pop"]), st.integers(0, 8), st.integers(0, 20))
)


@given(OPERATIONS)
def test_keys_come_when_they_are_due_and_in_order(operations: list[tuple[str, int, int]]) -> None:
    queue: DueQueue[int] = DueQueue()
    model: dict[int, tuple[int, int]] = {}
    for step, (what, key, at) in enumerate(operations):
        if what == "schedule":
            queue.schedule(key, at)
            if key not in model or model[key][0] != at:
                model[key] = (at, step)
        elif what == "cancel":
            queue.cancel(key)
            model.pop(key, None)
        else:
            due = sorted((each for each in model if model[each][0] <= at), key=lambda each: model[each])
            assert queue.pop_due(at) == due
            for each in due:
                del model[each]

        assert set(queue) == set(model)
        assert sorted(queue.peek_due(at)) == sorted(each for each in model if model[each][0] <= at)
        assert len(queue) == len(model)
        assert queue.due_at(key) == (model[key][0] if key in model else None)
        assert queue.next_due() == min((time for time, _ in model.values()), default=None)


def test_a_key_that_is_scheduled_again_and_again_takes_no_more_memory() -> None:
    queue: DueQueue[str] = DueQueue()
    for time in range(100_000, 0, -1):
        queue.schedule("a", time)

    assert len(queue._heap) <= 2 + SLACK
    assert queue.pop_due(1) == ["a"]
    assert queue.pop_due(1_000_000) == []
