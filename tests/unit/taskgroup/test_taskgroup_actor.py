"""The session's owner under random runs, workers and faults: every join fires once, with the right value."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskgroup_model import PlannedRun, PlannedTask, World, expected, order, plain

from anabranch.core.request.models import Expansion
from anabranch.core.wire.messages import Need, StopRun
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.partition import PartitionState

FORMATS = st.sampled_from(["merge", "separate", "single", "index"])
ON_EMPTY = st.sampled_from(["complete", "fail", "skip"])
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def expansions(draw: st.DrawFn, keys: list[str]) -> tuple[Expansion | None, str | None]:
    """An expansion, and the key whose value is its array unless the request has it."""
    kind = draw(st.sampled_from(["none", "none", "array", "matrix", "of a key" if keys else "array"]))
    if kind == "none":
        return None, None
    more: dict[str, Any] = {"output_format": draw(FORMATS), "on_empty": draw(ON_EMPTY)}
    sizes = st.integers(0, 5)
    if kind == "of a key":
        key = draw(st.sampled_from(keys))
        return Expansion(type="array", array_mapping={"item": key}, **more), key
    if kind == "array":
        return Expansion(type="array", array_mapping={"item": list(range(draw(sizes)))}, **more), None
    rows, columns = list(range(draw(sizes))), list(range(draw(st.integers(0, 3))))
    return Expansion(type="matrix", array_mapping={"row": rows, "column": columns}, **more), None


@st.composite
def runs(draw: st.DrawFn, run_id: str = "r") -> PlannedRun:
    """A random graph of tasks in groups. Keys whose values are lists may be arrays of later tasks."""
    external = {"outside": draw(st.lists(st.integers(-9, 9), max_size=4))}
    keys, lists, tasks = ["outside"], ["outside"], []
    for number in range(draw(st.integers(1, 6))):
        name = f"t{number}"
        expansion, array = draw(expansions(lists))
        wanted = draw(st.lists(st.sampled_from(keys), unique=True, max_size=3))
        needs = [_need(key, optional=key != array and draw(st.booleans())) for key in wanted]
        if array is not None and array not in wanted:
            needs.append(_need(array, optional=False))
        limits = {
            "tolerated_failures": draw(st.integers(0, 2)),
            "max_concurrency": draw(st.sampled_from([None, None, 1, 2])),
        }
        listed = draw(st.booleans())
        tasks.append(
            PlannedTask(
                order(name, needs, expansion, **limits),
                group=draw(st.sampled_from("abc")),
                array=array,
                failing=draw(st.frozensets(st.integers(0, 6), max_size=2)),
                flaky=draw(st.frozensets(st.integers(0, 6), max_size=2)),
                listed=listed,
            )
        )
        keys.append(name)
        if (expansion is None and listed) or (
            expansion is not None and expansion.output_format in ("merge", "index")
        ):
            lists.append(name)
    return PlannedRun(run_id, tuple(tasks), external)


def _need(key: str, *, optional: bool) -> Need:
    return Need(key=key, kind="external" if key == "outside" else "produced", optional=optional)


def live_through(world: World, maximum: int = 3_000) -> None:
    """Start every run at its step, and perform steps until none is left."""
    waiting = [message for run in world.runs.values() for message in run.messages()]
    for _ in range(maximum):
        if waiting and (world.random.random() < 0.5 or not world.step()):
            world.feed(waiting.pop(0))
        elif not waiting and not world.step():
            return
    raise AssertionError(f"still going on after {maximum} steps: {plain(world.partition)}")


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
