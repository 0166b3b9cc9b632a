"""Iterations that one of their tasks decides: `fail_fast`, `race` and `need` of a group with a loop."""

from __future__ import annotations

from typing import Any

import pytest
from flow_runs import FlowRun, order
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.request.flow import Loop
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.snapshots import decode_run, snapshot_of
from anabranch_taskgroup.session.turn import Halt

OVER_TEN = Expansion(type="array", array_mapping={"n": list(range(10))})


def loop(*keys: str, **spec: Any) -> m.TaskOrder:
    fields = {"each": [1, 2], "collect": "append", **spec}
    return order("L", kind="loop", result_keys=(*keys, "g.loop"), loop=Loop(**fields))


def body(name: str, *needs: str, **fields: Any) -> m.TaskOrder:
    return order(name, *needs, in_loop="L", **fields)


def halted(run: FlowRun) -> list[tuple[str | None, tuple[int, ...]]]:
    return [(each.task, each.iteration) for each in run.effects if isinstance(each, Halt)]


def endings(run: FlowRun, kind: str) -> list[tuple[str, int]]:
    return [(each["task"], each["iteration"][0]) for each in run.events if each["type"] == f"task.{kind}"]


def test_each_iteration_has_a_race_of_its_own() -> None:
    run = FlowRun({"g": [loop("a", "b"), body("a"), body("b"), body("c", "b")]}, {"need": 1})

    run.complete("b", "first")
    assert run.task("a").iteration == (1,)
    assert halted(run) == [("a", (0,))], "the stop must not reach the members of the next iteration"
    run.fail("b")
    assert decode_run(*snapshot_of(run.partition, run.run)) == run.run
    run.complete("a", "second")

    finished = run.finished["g"]
    assert (finished.status, finished.failures) == ("completed", ())
    assert finished.results["g.loop"] == {"iterations": 2, "ended_by": "items"}
    assert (finished.results["a"], finished.results["b"]) == ([None, "second"], ["first", None])
    assert endings(run, "cancelled") == [("a", 0), ("c", 0)]


def test_the_report_of_a_loser_is_stale_in_the_next_iteration() -> None:
    run = FlowRun({"g": [loop("a", "b"), body("a"), body("b")]}, {"need": 1})
    loser = run.task("a")
    [chunk] = loser.chunks.values()
    run.complete("b", 1)
    about = {"run_id": "r", "group": "g", "task": "a", "worker": "w", "chunk": chunk.number, "fence": chunk.fence}

    run.feed(m.MembersReported(**about, completed=((0, 1),), items=(1,), last=True), b"[2]")

    assert run.task("a").iteration == (1,)
    assert run.states() == {"L": "RUNNING", "a": "RUNNING", "b": "RUNNING"}


@pytest.mark.parametrize(("on_failure", "status"), [("fail", "failed"), ("continue", "completed")])
def test_the_first_failure_cancels_the_rest_of_its_iteration(on_failure: str, status: str) -> None:
    run = FlowRun({"g": [loop("a", "b", on_failure=on_failure), body("a"), body("b")]}, {"fail_fast": True})

    run.fail("b")
    assert endings(run, "cancelled") == [("a", 0)]
    if on_failure == "continue":
        run.complete("a", 1)
        assert "g" not in run.finished
        run.complete("b", 2)

    assert run.finished["g"].status == status
    if status == "failed":
        assert [each.task for each in run.finished["g"].failures] == ["b"]


@pytest.mark.parametrize(("on_failure", "status"), [("fail", "failed"), ("continue", "completed")])
def test_an_iteration_that_cannot_reach_its_number_fails_at_once(on_failure: str, status: str) -> None:
    tasks = [loop("a", "b", "c", on_failure=on_failure), body("a"), body("b"), body("c")]
    run = FlowRun({"g": tasks}, {"need": 2})
    run.fail("a")
    assert "g" not in run.finished

    run.fail("b")
    assert endings(run, "cancelled") == [("c", 0)]
    if on_failure == "continue":
        run.complete("a", 1)
        run.complete("c", 2)

    finished = run.finished["g"]
    assert finished.status == status
    if status == "failed":
        assert "NeedNotReached" in [each.error_type for each in finished.failures]


def test_a_race_of_members_is_one_of_each_iteration() -> None:
    run = FlowRun({"g": [loop("a"), body("a", expansion=OVER_TEN)]}, {"need": 2})
    run.complete("a", 0, index=4)
    run.complete("a", 1, index=7)
    assert run.task("a").iteration == (1,)
    assert halted(run) == [("a", (0,))]
    run.complete("a", 2, index=1)
    run.complete("a", 3, index=0)

    assert run.finished["g"].results["a"] == [[0, 1], [3, 2]]


def test_a_group_whose_loop_fails_has_not_won_its_race() -> None:
    run = FlowRun({"g": [loop("a", on_limit="fail", max_iterations=1), body("a"), body("b")]}, {"need": 1})
    run.complete("a")

    assert run.finished["g"].status == "failed"
    assert [each.error_type for each in run.finished["g"].failures] == ["LoopExhausted"]


def test_an_iteration_whose_tasks_are_skipped_needs_none() -> None:
    when = {"field": "iteration", "operator": "equals", "value": 1}
    run = FlowRun({"g": [loop("a", "b"), body("a", when=when), body("b", when=when)]}, {"need": 1})
    assert run.task("a").iteration == (1,)
    run.complete("a", 1)

    assert run.finished["g"].status == "completed"


@given(
    st.sampled_from([{"need": 1}, {"need": 2}, {"fail_fast": True}, {"fail_fast": True, "need": 1}]),
    st.sampled_from(["fail", "continue"]),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=14),
    st.integers(0, 14),
)
@settings(max_examples=150, deadline=None)
def test_whatever_ends_first_the_loop_goes_on_once_and_ends(
    options: dict[str, Any], on_failure: str, is_chained: bool, ends: list[tuple[int, bool]], stopped_after: int
) -> None:
    """Members of three tasks end in any order; the owner changes after each, and the run may be cancelled."""
    last = body("c", *(["a?"] if is_chained else []))
    run = FlowRun(
        {"g": [loop("a", "b", "c", each=[1, 2, 3], on_failure=on_failure), body("a"), body("b"), last]}, options
    )
    for number, (choice, is_good) in enumerate(ends):
        if "g" in run.finished:
            break
        if number == stopped_after:
            run.feed(m.StopRun(run_id="r", reason="cancelled"))
            break
        offered = [task.name for task in run.run.groups["g"].tasks.values() if task.chunks]
        name = offered[choice % len(offered)]
        run.complete(name, number) if is_good else run.fail(name)
        if "g" not in run.finished:
            restored = decode_run(*snapshot_of(run.partition, run.run))
            assert restored == run.run
            run.partition.runs["r"] = restored
    while "g" not in run.finished:
        name = next(task.name for task in run.run.groups["g"].tasks.values() if task.chunks)
        run.complete(name)

    started = [each["iteration"] for each in run.events if each["type"] == "iteration.started"]
    assert started == [(number,) for number in range(len(started))]
    finished = run.finished["g"]
    assert (finished.status == "completed") is (len(started) == 3 and "g.loop" in finished.results)
