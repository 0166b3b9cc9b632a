"""A member that kills its worker is identified, charged and failed; its neighbours are not."""

from __future__ import annotations

import pytest
from held_and_lost import Fleet, Play

from anabranch.core.wire.messages import TimerDue


def play_of(members: int, **order: object) -> Play:
    """A task whose first chunks are ten members each, and room to offer all of them."""
    return Play(members, rules={"window": 1_000}, **order)


# --- from fast to careful to alone ------------------------------------------------------------------


def test_after_a_death_the_open_members_of_its_chunks_run_carefully_and_none_is_charged() -> None:
    play = play_of(640)
    lost = play.chunks[0]
    play.complete(lost, 0, 1, 2)

    play.lose(lost)

    assert (lost.mode, lost.fence) == ("careful", 1)
    assert list(lost.pending.indexes()) == list(range(3, 10))
    assert (play.task.deaths, play.task.failed) == ({}, {})
    assert play.partition.runs["r"].groups["g"].has_lost_worker


def test_a_second_death_isolates_the_members_that_had_started_and_not_ended() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)
    play.begin(chunk, 0, 1, 2, 3)
    play.complete(chunk, 1, 2)

    play.lose(chunk)

    shape = play.shape
    assert [each for each in shape if each[0] == "alone"] == [("alone", [0]), ("alone", [3])]
    assert ("careful", [4, 5, 6, 7, 8, 9]) in shape
    assert play.task.failed == {}


def test_a_second_death_without_a_start_makes_no_suspects() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)

    play.lose(chunk)

    assert (chunk.mode, len(chunk.pending), play.task.deaths) == ("careful", 10, {})


def test_starts_of_an_earlier_delivery_make_no_suspects() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)
    play.begin(chunk, 0)
    play.hand_back(chunk)

    play.lose(chunk)

    assert (chunk.mode, play.task.deaths) == ("careful", {})


def test_only_a_death_alone_after_a_start_is_charged() -> None:
    play = Play(1, max_deliveries=2)
    [chunk] = play.chunks
    play.lose(chunk)
    play.begin(chunk, 0)
    play.lose(chunk)
    [alone] = play.chunks
    assert alone.mode == "alone"

    play.lose(alone)
    assert play.task.deaths == {0: 0}
    play.begin(alone, 0)
    play.hand_back(alone)
    play.lose(alone)
    assert play.task.deaths == {0: 0}
    play.begin(alone, 0)
    play.lose(alone)
    assert play.task.deaths == {0: 1}
    play.begin(alone, 0)
    play.lose(alone)

    assert play.finished is not None
    [failure] = play.finished.failures
    assert (failure.error_type, failure.index) == ("WorkerLost", 0)


@pytest.mark.parametrize("reason", ["draining", "no_agent", "no_document", "stopped"])
def test_a_chunk_that_is_handed_back_is_as_it_was(reason: str) -> None:
    play = play_of(640)
    chunk = play.chunks[0]

    for _ in range(20):
        play.hand_back(chunk, reason)
        play.at += 60
        play.partition.arm(play.partition.runs["r"])
        play.task.parked.clear()
        play.task.chunks[chunk.number] = chunk

    assert (chunk.mode, play.task.deaths, play.task.failed) == ("fast", {}, {})


def test_a_suspect_whose_attempt_failed_is_as_careful_in_the_next_one() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)
    play.begin(chunk, 0)
    play.lose(chunk)

    play.retry(play.chunk_of(0), 0, delay=30)
    play.retry(chunk, 5, delay=30)
    play.at += 30
    play.feed(TimerDue(run_id="r", at=play.at))

    assert [(play.chunk_of(index).mode, play.chunk_of(index).attempts) for index in (0, 5)] == [
        ("alone", {0: 1}),
        ("careful", {5: 1}),
    ]


def test_an_ended_member_is_no_longer_a_suspect() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)
    play.begin(chunk, 0)
    play.lose(chunk)

    play.complete_all()

    assert play.finished is not None
    assert play.finished.counts.completed == 640


# --- what one killer costs --------------------------------------------------------------------------


@pytest.mark.parametrize("max_deliveries", [1, 2, 5])
@pytest.mark.parametrize("killer", [0, 3, 250, 499])
@pytest.mark.parametrize("tolerated", [0, 1])
def test_one_killer_among_500_is_one_failed_member(killer: int, max_deliveries: int, tolerated: int) -> None:
    play = Play(500, max_deliveries=max_deliveries, tolerated_failures=tolerated)
    fleet = Fleet(play, {killer})

    fleet.run()

    assert play.finished is not None
    assert (play.finished.counts.completed, play.finished.counts.failed) == (499, 1)
    assert play.finished.status == ("completed" if tolerated else "failed")
    [failure] = play.finished.failures
    assert (failure.index, failure.error_type) == (killer, "WorkerLost")
    assert fleet.deaths == 2 + max_deliveries
    assert fleet.ran.pop(killer) == 2 + max_deliveries


def test_neighbours_of_a_killer_run_thrice_at_most() -> None:
    play = Play(500)
    fleet = Fleet(play, {17}, at_once=8, chunks_at_once=5)

    fleet.run()

    del fleet.ran[17]
    assert max(fleet.ran.values()) <= 3


def test_several_killers_cost_no_innocent_member() -> None:
    play = Play(500, tolerated_failures=3)
    fleet = Fleet(play, {1, 2, 499})

    fleet.run()

    assert play.finished is not None
    assert [failure.index for failure in play.finished.failures] == [1, 2, 499]
    assert (play.finished.status, play.finished.counts.completed) == ("completed", 497)
    assert fleet.deaths <= 3 * 7


# --- errors of a worker that lives ------------------------------------------------------------------


def test_a_chunk_that_no_worker_can_run_is_split_before_any_member_is_charged() -> None:
    play = play_of(640, max_deliveries=2)
    chunk = play.chunks[0]

    play.lose(chunk, cause="error")

    assert [members for _, members in play.shape if members[0] < 10] == [[index] for index in range(10)]
    assert play.task.failed == {}
    play.lose(play.chunk_of(4), cause="error")
    assert play.task.failed == {}
    play.lose(play.chunk_of(4), cause="error")
    assert [(index, each.error_type) for index, each in play.task.failed.items()] == [(4, "WorkerLost")]
    assert not play.partition.runs["r"].groups["g"].has_lost_worker


# --- replay -----------------------------------------------------------------------------------------


def test_a_successor_that_reads_the_log_knows_the_suspects() -> None:
    play = play_of(640)
    chunk = play.chunks[0]
    play.lose(chunk)
    play.begin(chunk, 0, 1)
    play.lose(chunk)
    play.begin(play.chunk_of(1), 1)
    play.lose(play.chunk_of(1))

    successor = play_of(640)
    for delivery in play.log[2:]:
        successor.feed(delivery.message, delivery.segments)

    assert (successor.shape, successor.task.deaths) == (play.shape, play.task.deaths)
    assert successor.task.deaths == {0: 0, 1: 1}
