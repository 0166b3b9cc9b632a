"""The fold of budgets: what is reserved is given back in every ending, and a takeover comes to the same state."""

from __future__ import annotations

from typing import Any

import pytest
from flow_runs import RULES, FlowRun, order

from anabranch.core.names import Names
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.budget_state import Budget
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.snapshots import CODEC, encode_run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of

DOLLAR = 1_000_000_000
LIMIT = (5 * DOLLAR, None, None, None)


def fan_out(members: int, **more: Any) -> m.TaskOrder:
    expansion = Expansion(type="array", array_mapping={"n": list(range(members))})
    return order("t", expansion=expansion, **more)


def flow(*orders: m.TaskOrder, **opened: Any) -> FlowRun:
    return FlowRun({"g": list(orders)}, budget=LIMIT, **opened)


def budget(run: FlowRun) -> Budget:
    found = run.run.budget
    assert found is not None
    return found


def pays(run: FlowRun, index: int, nanos: int, name: str = "t") -> None:
    """A member starts, spends and completes."""
    task = run.task(name)
    span = ((index, index + 1),)
    run.report(task, index, [b"[1]"], started=span, spent=((index, 1, nanos, 0),), completed=span, items=(1,))


def offered(run: FlowRun, name: str = "t") -> int:
    return sum(len(chunk.pending) for chunk in run.task(name).chunks.values())


def test_members_are_reserved_for_when_they_are_offered_and_settled_as_they_end() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    assert (offered(run), budget(run).reserved[0]) == (5, 5 * DOLLAR)

    pays(run, 0, DOLLAR // 4)
    assert (budget(run).spent[0], budget(run).reserved[0], offered(run)) == (DOLLAR // 4, 4 * DOLLAR, 4)
    pays(run, 1, 3 * DOLLAR // 4)
    assert (budget(run).spent[0], budget(run).reserved[0], offered(run)) == (DOLLAR, 4 * DOLLAR, 4)


def test_what_a_running_member_has_spent_is_not_counted_twice() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    run.report(run.task("t"), 0, [], started=((0, 1),), spent=((0, 1, 3 * DOLLAR, 0),))

    assert (budget(run).spent[0], budget(run).reserved[0]) == (3 * DOLLAR, 4 * DOLLAR)


def test_a_lost_chunk_gives_back_and_reserves_again() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    chunk = run.task("t").chunks[0]
    about = {"run_id": "r", "group": "g", "task": "t", "worker": "w"}
    run.feed(m.ChunkLost(**about, chunk=chunk.number, fence=chunk.fence))

    assert (offered(run), budget(run).reserved[0]) == (5, 5 * DOLLAR)


@pytest.mark.parametrize("reason", ["cancelled", "timed_out"])
def test_a_stop_gives_everything_back(reason: Any) -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)), order("w", "missing"))
    held = budget(run)
    run.feed(m.StopRun(run_id="r", reason=reason))

    assert held.reserved == (0, 0, 0, 0)


def test_a_task_fails_once_nothing_is_under_way() -> None:
    run = flow(fan_out(20, estimate=(2 * DOLLAR, None, None, None)))
    assert offered(run) == 2
    pays(run, 0, 2 * DOLLAR)
    assert run.task("t").state is TaskState.RUNNING
    pays(run, 1, 2 * DOLLAR)

    finished = run.finished["g"]
    assert (finished.status, [each.error_type for each in finished.failures]) == ("failed", ["BudgetExceeded"] * 2)
    assert finished.results == {"t": [1, 1]}


def test_a_report_that_is_read_twice_reserves_nothing_twice() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    pays(run, 0, DOLLAR // 4)
    before = budget(run).spent, budget(run).reserved
    last = run.log[-1]
    run.feed(last.message, *last.segments)

    assert (budget(run).spent, budget(run).reserved) == before


def test_a_snapshot_has_budgets_and_who_waits_for_them() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None), budget=(9 * DOLLAR, None, None, None)), order("u"))
    pays(run, 0, DOLLAR // 4)
    document, blobs = CODEC.write(run.run)
    [text, *_] = encode_run(run.run)
    again = CODEC.read(document, blobs)

    assert b"starved" in text
    assert (again.budget, again.starved, again.has_budgets) == (budget(run), run.run.starved, True)
    assert again.groups["g"].tasks["t"].chunks == run.task("t").chunks


def test_a_second_fold_comes_to_the_same_state() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    pays(run, 0, DOLLAR // 4)
    again = PartitionState(0)
    for delivery in run.log:
        decide(RULES, again, delivery)

    assert encode_run(again.runs["r"]) == encode_run(run.run)


def test_a_task_says_that_it_waits_for_a_budget() -> None:
    run = flow(fan_out(20, estimate=(DOLLAR, None, None, None)))
    step = Step(run.run, run.run.groups["g"], run.task("t"))
    found = [wait.missing for wait in kind_of(step.task).pending(step, Names("t."))]

    assert [each.fact for each in found][-1] == "waits_for_budget"
    assert found[-1].detail == (
        "the budget of the run is $5 (spent: $0, reserved for members under way: $5); the next member is expected "
        "to use $1"
    )


def test_before_a_first_member_has_ended_only_a_few_start() -> None:
    run = flow(fan_out(1_000))
    assert offered(run) <= 10
    for index in range(20):
        pays(run, index, DOLLAR // 100)

    # No more are under way than have ended.
    assert 10 < offered(run) <= 20
