"""The session's owner under random runs, workers and faults: every join fires once, with the right value."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from taskgroup_model import PlannedRun, PlannedTask, World, expected, order, plain
from taskgroup_runs import SLOW, live_through, runs

from anabranch.core.wire.messages import StopRun
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState


@given(runs(), st.integers(0, 2**32), st.integers(0, 40), st.sampled_from([40, 65_536]))
@SLOW
def test_every_run_ends_once_and_as_it_must(run: PlannedRun, seed: int, chaos: int, inline_limit: int) -> None:
    world = World([run], Random(seed), chaos, inline_limit)

    live_through(world)

    must = expected(run)
    assert plain(world.partition.runs) == {}
    assert (len(world.partition.dues), world.watched) == (0, set())
    assert sorted(world.finished) == [(run.run_id, group) for group in sorted(run.groups)]
    for (_, group), ends in world.finished.items():
        [finished] = ends
        found = {key: world.resolved(value) for key, value in finished.results.items()}
        assert found == must.results[group]
        assert {failure.task for failure in finished.failures} >= {
            task.order.name for task in run.tasks if task.group == group and task.order.name in must.failed
        }
        failed = any(task.order.name in must.failed for task in run.tasks if task.group == group)
        assert finished.status == ("failed" if failed else "completed")


@given(runs("r1"), runs("r2"), st.integers(0, 2**32), st.data())
@SLOW
def test_a_new_owner_that_reads_from_the_oldest_open_run_knows_the_same(
    one: PlannedRun, other: PlannedRun, seed: int, data: st.DataObject
) -> None:
    world = World([one, other], Random(seed), chaos=10, inline_limit=65_536)
    live_through(world)
    cut = data.draw(st.integers(0, len(world.log)))
    owner = PartitionState(0)
    for delivery in world.log[:cut]:
        decide(world.rules, owner, delivery)

    successor = PartitionState(0)
    start = owner.oldest_open()
    for delivery in world.log[len(world.log) if start is None else start : cut]:
        decide(world.rules, successor, delivery)

    assert plain(successor.runs) == plain(owner.runs)
    for delivery in world.log[cut:]:
        decide(world.rules, successor, delivery)
    assert plain(successor.runs) == {}


@given(runs(), st.integers(0, 2**32), st.integers(0, 30), st.sampled_from(["cancelled", "timed_out"]))
@SLOW
def test_a_stopped_run_ends_at_once_and_ignores_later_messages(
    run: PlannedRun, seed: int, steps: int, reason: Any
) -> None:
    world = World([run], Random(seed), chaos=10, inline_limit=65_536)
    for message in run.messages():
        world.feed(message)
    for _ in range(steps):
        world.step()

    world.feed(StopRun(run_id=run.run_id, reason=reason))

    assert world.partition.runs == {}
    assert world.watched == set()
    assert sorted(group for _, group in world.finished) == sorted(run.groups)
    assert {len(ends) for ends in world.finished.values()} == {1}
    completed = {key: value for results in expected(run).results.values() for key, value in results.items()}
    for key, value in world.published[run.run_id].items():
        assert completed[key] == value
    before = len(world.log), plain(world.partition)
    for worker in list(world.workers):
        worker.is_zombie = True
        world._report(worker)
    assert plain(world.partition) == before[1]


def test_a_run_that_has_ended_is_not_opened_again() -> None:
    run = PlannedRun("r", (PlannedTask(order("t", [], None), "g", None, frozenset(), frozenset(), False),), {})
    world = World([run], Random(0), 0, 65_536)
    live_through(world)

    for message in run.messages():
        world.feed(message)

    assert world.partition.runs == {}
    assert len(world.workers) == 1


def test_a_stop_that_overtakes_its_run_is_obeyed() -> None:
    run = PlannedRun("r", (PlannedTask(order("t", [], None), "g", None, frozenset(), frozenset(), False),), {})
    world = World([run], Random(0), 0, 65_536)

    world.feed(StopRun(run_id="r", reason="cancelled"))
    for message in run.messages():
        world.feed(message)

    assert world.workers == []
    assert [ends.status for ends in world.finished[("r", "g")]] == ["cancelled"]
    assert world.partition.runs == {}
