"""How many chunks of a task are out: few that wait for a worker, many that workers have started."""

from __future__ import annotations

from random import Random

import pytest
from held_and_lost import Play
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgroup_model import plain

from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState

WINDOW = 64
"""Chunks of a task that may wait for a worker."""


def begin_all(play: Play) -> None:
    """Start the first member of each waiting chunk, as reports of workers with enough slots would."""
    for chunk in [chunk for chunk in play.chunks if not chunk.begun]:
        play.begin(chunk, next(chunk.pending.indexes()))


def test_started_chunks_do_not_prevent_further_offers() -> None:
    """Each long member is a chunk of its own: with the limit of waiting chunks only 64 would run at once, however
    many workers there are.
    """
    play = Play(70_000, most_chunks=500)
    assert len(play.chunks) == WINDOW

    begin_all(play)
    assert len(play.chunks) == 2 * WINDOW
    while len(play.chunks) < 500:
        before = len(play.chunks)
        begin_all(play)
        assert len(play.chunks) == min(before + WINDOW, 500)

    begin_all(play)
    assert len(play.chunks) == 500
    play.complete_all()
    assert play.finished is not None
    assert play.finished.counts.completed == 70_000


@pytest.mark.parametrize("members", [100, 100_000])
def test_no_more_than_a_few_wait_for_a_worker(members: int) -> None:
    play = Play(members, most_chunks=4_096)

    for chunk in play.chunks[:10]:
        play.begin(chunk, next(chunk.pending.indexes()))

    assert len([chunk for chunk in play.chunks if not chunk.begun]) == WINDOW


def test_a_record_without_a_chunk_maximum_is_read_as_by_its_release() -> None:
    """State is a fold over the log: other chunks than its owner offered at the time would be another state."""
    play = Play(1_000)

    begin_all(play)

    assert len(play.chunks) == WINDOW


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 70, 300]))
def test_whatever_happens_to_chunks_the_bounds_hold_and_a_new_owner_knows_the_same(
    seed: int, maximum: int | None
) -> None:
    random = Random(seed)
    play = Play(400, most_chunks=maximum)

    for _ in range(120):
        if play.finished is not None:
            break
        _something_happens(play, random)
        waiting = {chunk.number for chunk in play.chunks if not chunk.begun}
        assert play.task.waiting == waiting
        assert len(play.chunks) <= (maximum or WINDOW)
    successor = PartitionState(3)
    for delivery in play.log:
        decide(play.rules, successor, delivery)
    assert plain(successor) == plain(play.partition)


def _something_happens(play: Play, random: Random) -> None:
    chunk = random.choice(play.chunks)
    members = list(chunk.pending.indexes())
    random.choice(
        [
            lambda: play.begin(chunk, *members),
            lambda: play.complete(chunk, *members),
            lambda: play.complete(chunk, *members),
            lambda: play.fail(chunk, members[0]),
            lambda: play.lose(chunk),
            lambda: play.lose(chunk, cause="error"),
            lambda: play.hand_back(chunk),
        ]
    )()
