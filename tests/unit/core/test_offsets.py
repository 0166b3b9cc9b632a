"""Completion out of order, and commits that trail, against naive models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.offsets import OffsetTracker, TrailingCommit


@given(st.sets(st.integers(0, 60), min_size=1), st.randoms(use_true_random=False))
def test_committable_follows_the_last_offset_before_which_all_are_done(offsets: set[int], random: object) -> None:
    """Offsets with gaps are started in order and finished in any order, the two interleaved at random."""
    waiting, done = sorted(offsets), set[int]()
    open_: list[int] = []
    tracker = OffsetTracker()
    while waiting or open_:
        if waiting and (not open_ or random.random() < 0.5):  # type: ignore[attr-defined]
            open_.append(waiting.pop(0))
            assert tracker.started(open_[-1])
        else:
            offset = open_.pop(random.randrange(len(open_)))  # type: ignore[attr-defined]
            done.add(offset)
            assert tracker.finished(offset)
        passed = [o for o in done if not open_ or o < min(open_)]
        assert tracker.committable() == (max(passed) + 1 if passed else None)
        assert tracker.in_flight == len(open_)
        assert tracker.oldest_open == (min(open_) if open_ else None)


def test_a_gap_in_the_log_does_not_hold_the_commit_back() -> None:
    tracker = OffsetTracker()
    for offset in (3, 7, 20):
        tracker.started(offset)
    tracker.finished(7)
    assert tracker.committable() is None
    tracker.finished(3)
    assert tracker.committable() == 8


def test_repeats_and_strangers_change_nothing() -> None:
    tracker = OffsetTracker()
    tracker.started(5)
    assert not tracker.started(5)
    assert not tracker.started(4)
    assert not tracker.finished(4)
    tracker.finished(5)
    assert not tracker.finished(5)
    assert tracker.committable() == 6


def test_an_offset_passes_once_it_is_as_old_as_the_window() -> None:
    trailing = TrailingCommit(window=5.0)
    trailing.mark(10, now=100.0)
    trailing.mark(20, now=102.0)
    assert trailing.committable(104.9) is None
    assert trailing.committable(105.0) == 10
    assert trailing.committable(106.9) == 10
    assert trailing.committable(107.0) == 20


def test_another_store_forgets_what_the_window_held() -> None:
    trailing = TrailingCommit(window=5.0)
    trailing.mark(10, now=0.0)
    assert trailing.committable(5.0) == 10
    trailing.mark(20, now=6.0)
    assert trailing.reset() == 10
    assert trailing.committable(100.0) == 10
    trailing.mark(20, now=101.0)
    assert trailing.committable(106.0) == 20


def test_what_the_store_confirmed_need_not_wait() -> None:
    trailing = TrailingCommit(window=5.0)
    trailing.mark(10, now=0.0)
    trailing.mark(20, now=1.0)
    trailing.confirm(10)
    assert trailing.committable(1.0) == 10


def test_without_a_window_an_offset_passes_at_once() -> None:
    trailing = TrailingCommit(window=0.0)
    trailing.mark(3, now=1.0)
    assert trailing.committable(1.0) == 3
    with pytest.raises(ValueError, match="loss window"):
        TrailingCommit(window=-1.0)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 2)), min_size=1, max_size=60))
def test_a_trailing_commit_is_never_early_and_at_most_a_grain_late(steps: list[tuple[int, float]]) -> None:
    trailing, window = TrailingCommit(window=4.0), 4.0
    marks: list[tuple[int, float]] = []
    offset, now = 0, 0.0
    for more, passed in steps:
        offset, now = offset + more, now + passed
        trailing.mark(offset, now)
        marks.append((offset, now))
        safe = trailing.committable(now)
        old = [mark for mark, at in marks if now - at >= window]
        older = [mark for mark, at in marks if now - at >= window + window / 16 + 1e-9]
        assert (safe or 0) <= max(old, default=0)
        assert (safe or 0) >= max(older, default=0)


def test_marks_at_any_rate_keep_memory_bounded() -> None:
    trailing = TrailingCommit(window=5.0)
    for offset in range(10_000):
        trailing.mark(offset, now=offset / 2500)
    assert trailing.waiting <= 17
