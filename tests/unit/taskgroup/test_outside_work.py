"""Work that outlives its worker: what its owner keeps, what the next worker gets, and which work is not needed."""

from __future__ import annotations

from typing import Any

import pytest
from flow_runs import RULES, FlowRun, order

from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.snapshots import CODEC
from anabranch_taskgroup.session.suspects import MAX_SPARED
from anabranch_taskgroup.session.task_state import Chunk
from anabranch_taskgroup.session.turn import StopWork
from anabranch_taskgroup.session.work import handles_for, is_needed

PLACE = {"run_id": "r", "group": "g", "task": "t", "worker": "w"}
MEMBERS = Expansion(type="array", array_mapping={"n": [1, 2, 3]})


def chunk_of(run: FlowRun, index: int = 0) -> Chunk:
    return next(each for each in run.task("t").chunks.values() if index in each.pending)


def report(run: FlowRun, index: int = 0, **more: Any) -> m.MembersReported:
    chunk = chunk_of(run, index)
    return m.MembersReported(**PLACE, chunk=chunk.number, fence=chunk.fence, **more)


def lost(run: FlowRun, index: int = 0) -> m.ChunkLost:
    chunk = chunk_of(run, index)
    return m.ChunkLost(**PLACE, chunk=chunk.number, fence=chunk.fence)


def work(run: FlowRun, **changes: Any) -> m.WorkRef:
    known = m.WorkRef(group="g", task="t", index=0, attempt=1, admission=run.run.admission, handle="h")
    return known.model_copy(update=changes)


def running() -> FlowRun:
    """A run with one member whose work a worker has reported."""
    run = FlowRun({"g": [order("t")]})
    run.feed(report(run, started=((0, 1),), handles=((0, 1, "h"),)))
    return run


def test_the_next_delivery_carries_the_handle_and_is_not_suspected() -> None:
    run = running()
    for _ in range(10):
        run.feed(lost(run))

    chunk = chunk_of(run)
    assert (handles_for(run.task("t"), chunk), chunk.mode, chunk.attempts) == ({0: "h"}, "fast", {})


def test_a_death_counts_once_a_few_workers_have_died_without_a_report_of_work() -> None:
    run = FlowRun({"g": [order("t", expansion=MEMBERS)]})
    run.feed(report(run, 0, started=((0, 1),), handles=((0, 1, "h"),)))
    for _ in range(MAX_SPARED):
        run.feed(lost(run, 1))
        assert chunk_of(run, 1).mode == "fast"
    run.feed(lost(run, 1))

    assert (chunk_of(run, 0).mode, chunk_of(run, 1).mode) == ("fast", "careful")


def test_a_handle_is_forgotten_with_its_attempt() -> None:
    run = running()
    retry = m.MemberRetry(index=0, attempt=1, delay=None, error_type="E", message="no")
    run.feed(report(run, retried=(retry,)))
    assert run.task("t").handles == {}

    run.feed(report(run, handles=((0, 2, "second"),)))
    assert handles_for(run.task("t"), chunk_of(run)) == {0: "second"}
    run.feed(report(run, handles=((0, 1, "late"),)))
    assert handles_for(run.task("t"), chunk_of(run)) == {0: "second"}


def test_a_report_of_an_earlier_delivery_changes_no_handle() -> None:
    run = running()
    late = report(run, handles=((0, 1, "other"),))
    run.feed(lost(run))
    run.feed(late)

    assert run.task("t").handles == {0: (1, "h")}


def test_handles_survive_a_snapshot_and_a_replay() -> None:
    run = running()
    document, blobs = CODEC.write(run.run)
    again = PartitionState(0)
    for delivery in run.log:
        decide(RULES, again, delivery)

    assert CODEC.read(document, blobs).groups["g"].tasks["t"].handles == {0: (1, "h")}
    assert again.runs["r"].groups["g"].tasks["t"].handles == {0: (1, "h")}


@pytest.mark.parametrize(
    "changes",
    [{"attempt": 0}, {"redrive": 1}, {"iteration": (1,)}, {"task": "gone"}, {"group": "gone"}, {"admission": 99}],
)
def test_work_that_is_of_no_next_attempt_is_not_needed(changes: dict[str, Any]) -> None:
    run = running()

    assert is_needed(run.run, work(run))
    assert is_needed(run.run, work(run, attempt=2)), "its worker may not have reported the first attempt yet"
    assert not is_needed(run.run, work(run, **changes))


def test_the_worker_that_asked_stops_the_work_of_a_run_that_has_ended() -> None:
    run = running()
    question = m.WorkFound(run_id="r", session_id="s", worker="w2", kind="kubernetes", works=(work(run),))
    assert [each for each in run.feed(question).effects if isinstance(each, StopWork)] == []

    run.feed(m.StopRun(run_id="r", reason="cancelled", terminate=True))
    [stop] = [each for each in run.feed(question).effects if isinstance(each, StopWork)]
    assert stop == StopWork("r", "kubernetes", "w2", ("h",))
