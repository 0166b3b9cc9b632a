"""What reports say that members have used counts once, whatever is repeated, lost or called again."""

from __future__ import annotations

from typing import Any

from flow_runs import RULES, FlowRun, order

from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.spending import costs_of

MEMBERS = Expansion(type="array", array_mapping={"n": [1, 2, 3]})


def started(run: FlowRun, index: int = 0, name: str = "t", **more: Any) -> m.MembersReported:
    task = run.task(name)
    chunk = next(each for each in task.chunks.values() if index in each.pending)
    about = {"run_id": "r", "group": "g", "task": name, "worker": "w", "chunk": chunk.number, "fence": chunk.fence}
    return m.MembersReported(**about, started=((index, index + 1),), **more)


def test_a_report_that_is_read_twice_counts_once() -> None:
    run = FlowRun({"g": [order("t", expansion=MEMBERS)]})
    report = started(run, spent=((0, 1, 500, 7),), micros=40)

    for each in (report, report, started(run, spent=((0, 1, 900, 8),), micros=90), report):
        run.feed(each)

    assert costs_of(run.task("t")) == (900, 8, 90, 1)


def test_a_lost_attempt_counts_and_so_does_the_next_one() -> None:
    run = FlowRun({"g": [order("t", expansion=MEMBERS)]})
    report = started(run, spent=((0, 1, 500, 7),), micros=40)
    run.feed(report)
    about = {"run_id": "r", "group": "g", "task": "t", "worker": "w"}
    run.feed(m.ChunkLost(**about, chunk=report.chunk, fence=report.fence))

    run.feed(report)  # of a worker that was declared dead
    run.feed(started(run, spent=((0, 1, 300, 1),), micros=10))

    assert costs_of(run.task("t")) == (800, 8, 50, 2)


def test_attempts_of_one_delivery_add_up() -> None:
    run = FlowRun({"g": [order("t")]})
    retry = m.MemberRetry(index=0, attempt=1, delay=None, error_type="E", message="no")
    report = started(run, spent=((0, 1, 500, 0),), retried=(retry,), restarted=((0, 2, 3.0),), micros=10)

    for _ in range(2):
        run.feed(report)
    run.feed(started(run, spent=((0, 1, 500, 0), (0, 2, 200, 0)), micros=30))
    run.complete("t", 1)

    [(name, *costs)] = run.finished["g"].costs
    assert (name, costs) == ("t", [700, 0, 30, 2])
    completed = next(each for each in run.events if each["type"] == "task.completed")
    assert (completed["usd"], completed["usd_total"]) == (2e-7, 7e-7)


def test_a_fold_of_any_prefix_twice_has_the_same_costs() -> None:
    run = FlowRun({"g": [order("t", expansion=MEMBERS)]})
    run.feed(started(run, spent=((0, 1, 500, 7),), micros=40))
    run.complete("t", 1, index=0)
    run.feed(started(run, 1, spent=((1, 1, 300, 1),), micros=70))

    again = PartitionState(0)
    for delivery in run.log:
        decide(RULES, again, delivery)

    task = again.runs["r"].groups["g"].tasks["t"]
    assert costs_of(task) == costs_of(run.task("t")) == (800, 8, 110, 2)


def test_members_that_used_nothing_have_no_costs_in_their_events() -> None:
    run = FlowRun({"g": [order("t", expansion=MEMBERS)]})
    run.feed(started(run))
    run.complete("t", 1)

    assert not [each for each in run.events if "usd" in each]
