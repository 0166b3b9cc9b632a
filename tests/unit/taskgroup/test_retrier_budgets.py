"""The owner keeps, for each open member, how many attempts count against each entry of a list of retriers."""

from __future__ import annotations

import asyncio
from typing import Any

from held_and_lost import Play

from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.request.models import RetryPolicy
from anabranch.core.wire.messages import MemberRetry, MembersReported, TimerDue
from anabranch.runtime.process.clock import SystemClock
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.session.snapshots import decode_run, snapshot_of
from anabranch_taskgroup.session.task_state import Chunk

RETRIERS = (RetryPolicy(strategy="fixed", errors=("KeyError",)), RetryPolicy(strategy="fixed", delay=60.0))


def fail_attempt(play: Play, chunk: Chunk, attempt: int, retrier: int, delay: float | None) -> MembersReported:
    """Attempt `attempt` of member 1 fails, and counts against the entry `retrier`."""
    more: dict[str, Any] = {"error_type": "E", "message": "later", "retrier": retrier}
    again = MemberRetry(index=1, attempt=attempt, delay=delay, **more)
    report = MembersReported(**play._fields_of(chunk), started=((1, 2),), retried=(again,))
    play.feed(report)
    return report


def offered_attempts(play: Play, chunk: Chunk) -> dict[int, tuple[int, ...]]:
    """What the offer of a chunk says about budgets, as a worker reads it."""
    clock = SystemClock()
    run, offers = play.partition.runs["r"], Offers(play.rules, MemoryStore(MemoryServer(clock)), clock)
    return asyncio.run(offers.make(run, run.groups["g"], play.task, chunk)).offer.retrier_attempts


def test_the_next_worker_gets_the_attempts_that_count_against_each_entry() -> None:
    play = Play(3, retriers=RETRIERS)
    chunk = play.chunk_of(1)

    fail_attempt(play, chunk, 1, retrier=0, delay=None)
    fail_attempt(play, chunk, 2, retrier=1, delay=60.0)
    play.at += 61
    play.feed(TimerDue(run_id="r", at=play.at))

    assert offered_attempts(play, play.chunk_of(1)) == {1: (1, 1)}
    assert offered_attempts(play, play.chunk_of(0)) == {}


def test_a_report_that_is_read_twice_counts_once() -> None:
    play = Play(3, retriers=RETRIERS)

    report = fail_attempt(play, play.chunk_of(1), 1, retrier=1, delay=None)
    play.feed(report)

    assert play.task.retrier_attempts == {1: (0, 1)}


def test_the_attempts_survive_a_lost_worker_and_a_snapshot() -> None:
    play = Play(3, retriers=RETRIERS)
    fail_attempt(play, play.chunk_of(1), 1, retrier=1, delay=None)
    play.lose(play.chunk_of(1))

    run = decode_run(*snapshot_of(play.partition, play.partition.runs["r"]))

    assert run.groups["g"].tasks["t"].retrier_attempts == {1: (0, 1)}
    assert offered_attempts(play, play.chunk_of(1)) == {1: (0, 1)}


def test_a_redriven_member_has_its_whole_budgets_again() -> None:
    play = Play(3, retriers=RETRIERS, on_failure="hold")
    fail_attempt(play, play.chunk_of(1), 1, retrier=1, delay=None)
    play.fail(play.chunk_of(1), 1)
    play.release("redrive")

    assert offered_attempts(play, play.chunk_of(1)) == {}


def test_nothing_is_kept_of_members_that_have_ended() -> None:
    play = Play(3, retriers=RETRIERS)
    fail_attempt(play, play.chunk_of(1), 1, retrier=1, delay=None)
    play.complete(play.chunk_of(1), 1)

    assert play.task.retrier_attempts == {}
