"""`on_failure: hold`: a failed member keeps its join open until it is redriven or dismissed, or a timeout."""

from __future__ import annotations

from typing import Any

import pytest
from held_and_lost import Play


def held_at(*indexes: int, members: int = 4, **order: Any) -> Play:
    """A task all of whose members have completed but these, which are held."""
    play = Play(members, on_failure="hold", **order)
    for index in range(members):
        chunk = play.chunk_of(index)
        if index in indexes:
            play.fail(chunk, index)
        else:
            play.complete(chunk, index)
    return play


def test_the_join_waits_for_a_held_member() -> None:
    play = held_at(2)

    assert play.finished is None
    assert (sorted(play.task.held), play.task.failed) == ([2], {})
    assert [data.get("held") for data in play.kinds("task.failed")] == [True]
    assert [(dead_letter["index"], dead_letter["held"]) for dead_letter in play.dead_letters] == [(2, True)]


def test_a_redriven_member_runs_into_the_join_that_is_still_open() -> None:
    play = held_at(2)

    play.release("redrive")

    [chunk] = play.chunks
    assert (list(chunk.pending.indexes()), chunk.attempts, chunk.mode) == ([2], {}, "fast")
    assert [data["redriven"] for data in play.kinds("task.retrying")] == [True]
    play.complete(chunk, 2)
    assert play.finished is not None
    assert (play.finished.status, play.finished.failures) == ("completed", ())
    assert play.finished.results == {"t": [0, 1, 2, 3]}


def test_a_redriven_member_that_fails_again_is_held_again_with_its_own_dead_letter() -> None:
    play = held_at(2)

    play.release("redrive", "c1")
    play.fail(play.chunks[0], 2)

    assert (play.finished, sorted(play.task.held)) == (None, [2])
    ids = [headers["anabranch_id"] for headers in play.dead_letter_headers]
    assert ids == ["r/g/t_3/0", "r/g/t_3/1"]


@pytest.mark.parametrize(("tolerated", "status"), [(0, "failed"), (1, "completed")])
def test_a_dismissed_member_counts_as_failed(tolerated: int, status: str) -> None:
    play = held_at(2, tolerated_failures=tolerated)

    play.release("dismiss")

    assert play.finished is not None
    assert play.finished.status == status
    assert [failure.index for failure in play.finished.failures] == [2]
    assert play.finished.counts.failed == 1
    assert [data.get("dismissed") for data in play.kinds("task.failed")] == [None, True]
    assert len(play.dead_letters) == 1


@pytest.mark.parametrize("action", ["redrive", "dismiss"])
def test_a_command_is_obeyed_once(action: Any) -> None:
    play = held_at(1, 2)

    play.release(action, "c", indexes=(1,))
    play.release(action, "c", indexes=(2,))
    play.release(action, "c")

    assert sorted(play.task.held) == [2]
    assert play.partition.dropped == {"command known before": 2}


@pytest.mark.parametrize(
    "named", [{"group": "other"}, {"task": "other"}, {"group": "g", "task": "other"}, {"indexes": (0, 3, 99)}]
)
def test_what_is_not_held_is_left_alone(named: Any) -> None:
    play = held_at(1, 2)

    play.release("dismiss", **named)

    assert (sorted(play.task.held), play.chunks, play.finished) == ([1, 2], [], None)


@pytest.mark.parametrize(
    "named", [{}, {"group": "g"}, {"task": "t"}, {"group": "g", "task": "t", "indexes": (1, 2)}]
)
def test_null_stands_for_all(named: Any) -> None:
    play = held_at(1, 2)

    play.release("dismiss", **named)

    assert play.finished is not None


def test_an_ordinary_task_is_held_and_redriven() -> None:
    play = Play(None, on_failure="hold")
    play.fail(play.chunks[0], 0)
    assert play.finished is None
    assert [(dead_letter["index"], dead_letter["member"]) for dead_letter in play.dead_letters] == [(None, "t")]

    play.release("redrive", task="t")
    play.complete(play.chunks[0], 0)

    assert play.finished is not None
    assert (play.finished.status, play.finished.results) == ("completed", {"t": 0})


def test_an_ordinary_task_is_dismissed() -> None:
    play = Play(None, on_failure="hold")
    play.fail(play.chunks[0], 0)

    play.release("dismiss", indexes=(0,))

    assert play.finished is not None
    assert (play.finished.status, len(play.finished.failures)) == ("failed", 1)


def test_the_timeout_ends_the_wait_and_the_held_count_as_failed() -> None:
    play = held_at(2)

    play.time_out_group()

    assert play.finished is not None
    assert play.finished.status == "timed_out"
    assert {failure.error_type for failure in play.finished.failures} == {"ValueError", "GroupTimeout"}
    assert (play.finished.counts.failed, play.finished.counts.completed) == (1, 3)
    assert play.finished.results == {"t": [0, 1, 3]}


def test_other_members_continue_beside_a_held_one() -> None:
    play = Play(4, on_failure="hold", max_concurrency=1)

    for index in range(4):
        (play.fail if index == 0 else play.complete)(play.chunk_of(index), index)

    assert (len(play.task.completed), sorted(play.task.held), play.finished) == (3, [0], None)


def test_a_killer_is_held_and_begins_alone_when_it_is_redriven() -> None:
    play = Play(1, on_failure="hold", max_deliveries=1)
    play.lose(play.chunks[0])
    play.begin(play.chunks[0], 0)
    play.lose(play.chunks[0])
    play.begin(play.chunks[0], 0)
    play.lose(play.chunks[0])
    assert [(dead_letter["error_type"], dead_letter["deliveries"]) for dead_letter in play.dead_letters] == [
        ("WorkerLost", 1)
    ]

    play.release("redrive")

    assert play.shape == [("alone", [0])]
    assert play.task.deaths == {0: 0}


def test_a_command_for_a_run_that_is_over_is_dropped() -> None:
    play = held_at(2)
    play.release("dismiss", "c1")

    play.release("redrive", "c2")

    assert play.partition.dropped == {"command on a run that is not open": 1}


def test_a_successor_that_reads_the_log_holds_the_same() -> None:
    play = held_at(1, 2)
    play.release("redrive", "c1", indexes=(1,))

    successor = Play(4, on_failure="hold")
    for delivery in play.log[2:]:
        successor.feed(delivery.message, delivery.segments)
    successor.release("redrive", "c1")

    assert (sorted(successor.task.held), successor.shape) == ([2], [("fast", [1])])
