"""The pure parts of the shell around an actor: where to start reading, how a batch is cut, what is written."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anabranch.ports import Committed, Incoming
from anabranch.runtime.ownership.effects import AppendHistory, Expire, StorePut
from anabranch.runtime.ownership.replay import (
    DelayedReplayStart,
    Replay,
    aged,
    by_scope,
    group_by_time,
    position,
    replay_of,
    split_batch,
)


def records(offsets: list[int]) -> list[Incoming]:
    return [Incoming("t", 0, offset, None, b"", (), 0.0) for offset in offsets]


def cut(offsets: list[int], committed: int, epoch: int) -> list[list[int]]:
    return [[record.offset for record in part] for part in split_batch(records(offsets), committed, epoch)]


def test_a_batch_is_split_at_the_committed_offset_and_after_the_claim() -> None:
    assert cut([1, 2, 3, 4, 5, 6], committed=3, epoch=5) == [[1, 2], [3, 4, 5], [6]]
    assert cut([1, 2, 3], committed=0, epoch=-1) == [[1, 2, 3]]
    assert cut([7, 8], committed=3, epoch=5) == [[7, 8]]
    assert cut([4, 5], committed=9, epoch=12) == [[4, 5]]
    assert cut([1, 9], committed=5, epoch=6) == [[1], [9]]


@given(st.lists(st.integers(0, 30), unique=True, min_size=1), st.integers(0, 31), st.integers(-1, 31))
def test_splitting_keeps_the_order_and_separates_kinds_of_records(
    offsets: list[int], committed: int, epoch: int
) -> None:
    parts = cut(sorted(offsets), committed, epoch)

    assert [offset for part in parts for offset in part] == sorted(offsets)
    for part in parts:
        assert len({offset < committed for offset in part}) == 1
        assert epoch < 0 or len({offset <= epoch for offset in part}) == 1


@pytest.mark.parametrize(
    ("committed", "again"),
    [
        (None, Replay(None, 0, False)),
        (position(10, 4, "store-1"), Replay(4, 10, False)),
        (position(10, 4, "store-2"), Replay(4, 10, True)),
        (position(10, 40, "store-1"), Replay(10, 10, False)),
        (Committed(10, "not ours"), Replay(0, 10, True)),
        (Committed(10, "[]"), Replay(0, 10, True)),
        (Committed(10, '{"replay_from": "x"}'), Replay(0, 10, True)),
    ],
)
def test_a_replay_starts_at_the_position_of_the_commit(committed: Committed | None, again: Replay) -> None:
    assert replay_of(committed, "store-1") == again


def test_after_a_loss_of_the_store_the_whole_log_is_replayed() -> None:
    assert replay_of(position(10, 4, "store-1"), "store-1", is_intact=False) == Replay(0, 10, True)
    assert replay_of(None, "store-1", is_intact=False) == Replay(None, 0, False), "nothing was done before"


@given(st.lists(st.floats(0, 1e6)))
def test_records_are_grouped_by_their_time(times: list[float]) -> None:
    found = [Incoming("t", 0, at, None, b"", (), time) for at, time in enumerate(times)]

    parts = list(group_by_time(found))

    assert [record for part in parts for record in part] == found
    assert all(abs(record.timestamp - part[0].timestamp) <= 60 for part in parts for record in part)


def test_replayed_effects_have_a_ttl_reduced_by_their_age() -> None:
    effects = [StorePut("s", "old", b"1", 40.0), StorePut("s", "new", b"1", 500.0), Expire(("old", "new"), 90.0)]

    assert aged(effects, 100.0) == [StorePut("s", "new", b"1", 400.0), Expire(("old", "new"), 1.0)]
    assert aged(effects[1:2], -5.0) == effects[1:2], "the clocks of brokers may be ahead"


@given(st.floats(0, 300), st.floats(0, 120), st.floats(0, 60), st.floats(61, 200))
def test_a_restored_run_that_has_ended_has_its_end(now: float, ended_at: float, apart: float, ttl: float) -> None:
    """The run is admitted at 0 s with a deadline of 120 s. The record of its end is up to `apart` seconds after
    the first record of its group, which is the group of the admission or a later one."""
    assume(ended_at <= now)
    begin = max(0.0, ended_at - apart)
    opened = StorePut("r", "run", b"open", 120.0 + ttl)
    ended = StorePut("r", "run", b"ended", 120.0 - ended_at + ttl)

    groups = [([opened, ended], 0.0)] if begin == 0.0 else [([opened], 0.0), ([ended], begin)]
    restored = [each for group, first in groups for each in aged(group, now - first)]

    if now < 120.0 + ttl:
        assert [each.value for each in restored if isinstance(each, StorePut)][-1] == b"ended"
    for each in restored:
        assert isinstance(each, StorePut)
        assert each.ttl <= max(120.0 + ttl - now, 1.0) + 1e-6


def test_a_history_entry_that_expires_soon_is_not_restored() -> None:
    """A history has entries of many runs, and none of them replaces another."""
    entry = AppendHistory("s", "history", 1, b"1", 100.0, 5)

    assert aged([entry], 39.0) == [AppendHistory("s", "history", 1, b"1", 61.0, 5)]
    assert aged([entry], 40.0) == []


def test_the_replay_start_is_delayed_by_the_lag() -> None:
    replay = DelayedReplayStart(lag=10.0)

    assert [replay.note(offset, now) for offset, now in [(5, 0.0), (8, 4.0), (20, 9.0)]] == [5, 5, 5]
    assert replay.note(30, 14.0) == 8
    assert replay.note(30, 30.0) == 30


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), min_size=1))
def test_the_delayed_start_is_never_later_than_a_start_within_the_lag(steps: list[tuple[int, float]]) -> None:
    replay = DelayedReplayStart(lag=7.0)
    noted: list[tuple[float, int]] = []
    now = 0.0
    for offset, step in steps:
        now += step
        noted.append((now, offset))
        found = replay.note(offset, now)
        assert found <= min(each for at, each in noted if at > now - 7.0)


def test_the_last_write_of_a_key_wins_and_scopes_are_separate() -> None:
    puts = [
        StorePut("s1", "a", b"1", 5.0),
        StorePut("s2", "b", b"2", 5.0),
        StorePut("s1", "c", b"3", 5.0),
        StorePut("s1", "a", b"4", 5.0),
        StorePut("s1", "d", b"5", 5.0, fenced=False),
    ]

    found = {scope: [(write.key, write.value) for write in writes] for scope, writes in by_scope(puts)}

    assert found == {"s1": [("a", b"4"), ("c", b"3")], "s2": [("b", b"2")], None: [("d", b"5")]}
