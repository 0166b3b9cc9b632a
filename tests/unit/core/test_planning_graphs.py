"""Order and cycles in graphs of every shape: random ones, recorded ones, large ones."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from counted_work import lines_of
from hypothesis import given
from hypothesis import strategies as st
from workflows import WORKFLOWS, Grouping, workflow_request, workflow_tasks

from anabranch.core.request.admission import read_request
from anabranch.core.request.ordering import find_cycles, levels_of
from anabranch.core.request.planning import Plan

Edges = list[list[int]]


@st.composite
def graphs(draw: st.DrawFn, acyclic: bool) -> Edges:
    """For each task the indexes of those it waits for, in arbitrary order."""
    size = draw(st.integers(1, 25))
    order = draw(st.permutations(range(size)))
    edges: Edges = [[] for _ in range(size)]
    for number, index in enumerate(order):
        allowed = order[:number] if acyclic else order
        if allowed:
            edges[index] = sorted(draw(st.sets(st.sampled_from(allowed), max_size=4)))
    return edges


@given(graphs(acyclic=True))
def test_without_a_cycle_each_task_is_one_above_the_highest_that_it_waits_for(edges: Edges) -> None:
    levels = levels_of(edges)

    assert levels is not None
    for index, targets in enumerate(edges):
        assert levels[index] == max((levels[target] + 1 for target in targets), default=0)
    assert find_cycles(edges) == []


@given(graphs(acyclic=False))
def test_a_cycle_is_found_exactly_where_there_are_no_levels_and_is_a_real_one(edges: Edges) -> None:
    cycles = find_cycles(edges)

    assert (levels_of(edges) is None) == bool(cycles)
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(after in edges[before] for before, after in itertools.pairwise(cycle))
    assert len({index for cycle in cycles for index in cycle}) == sum(len(cycle) - 1 for cycle in cycles)


@given(graphs(acyclic=False))
def test_taking_one_edge_out_of_each_shown_cycle_again_and_again_ends_all_cycles(edges: Edges) -> None:
    left = [list(targets) for targets in edges]
    for _ in range(sum(map(len, edges)) + 1):
        cycles = find_cycles(left)
        if not cycles:
            break
        for cycle in cycles:
            left[cycle[0]].remove(cycle[1])
    assert levels_of(left) is not None


@given(graphs(acyclic=True))
def test_the_plan_of_a_request_has_every_producer_below_its_consumers(edges: Edges) -> None:
    plan = planned(request_of(edges))

    levels = {task.label: task.level for task in plan.tasks}
    for task in plan.tasks:
        for need in task.needs:
            assert need.producer
            assert levels["/".join(need.producer)] < task.level
    declared = [task.label for task in plan.tasks]
    assert [label for level in plan.levels for label in level] == sorted(declared, key=levels.__getitem__)
    assert plan.edges == sum(map(len, edges))


def request_of(edges: Edges) -> dict[str, Any]:
    """Task i is in group i % 3, so that groups depend on each other in cycles."""
    tasks = [
        {
            "name": f"t{index}",
            "agent": "echo",
            "result_keys": [f"k{index}"],
            "dependencies": [f"k{target}" for target in targets],
        }
        for index, targets in enumerate(edges)
    ]
    groups = [{"name": f"g{at}", "tasks": tasks[at::3]} for at in range(3) if tasks[at::3]]
    return {"task_groups": groups}


def planned(document: dict[str, Any]) -> Plan:
    reading = read_request(document)
    assert reading.errors == ()
    assert reading.plan
    return reading.plan


@pytest.mark.parametrize("grouping", ["one", "task", "program"])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_recorded_workflows_have_the_same_levels_however_they_are_grouped(name: str, grouping: Grouping) -> None:
    recorded = {task["id"]: task["parents"] for task in workflow_tasks(name)}

    plan = planned(workflow_request(name, grouping))

    levels = {task.name: task.level for task in plan.tasks}
    assert levels == {
        task: max((levels[parent] + 1 for parent in parents), default=0) for task, parents in recorded.items()
    }
    assert plan.executions == len(plan.tasks) == len(recorded)
    assert plan.edges == sum(len(set(parents)) for parents in recorded.values())
    assert read_request(workflow_request(name, grouping), agents={"sleep"}).errors == ()


def test_there_are_eight_recorded_workflows_and_programs_are_groups() -> None:
    assert len(WORKFLOWS) == 8
    groups = {name: len(workflow_request(name, "program")["task_groups"]) for name in WORKFLOWS}
    assert groups["helloworld-chain-5-chameleon"] == 1
    assert groups["epigenomics-chameleon-hep-1seq-100k-001"] == 8


def test_a_long_chain_and_a_long_cycle_need_no_recursion() -> None:
    chain: Edges = [[]] + [[index] for index in range(9_999)]

    assert len(planned(request_of(chain)).levels) == 10_000
    chain[0] = [9_999]
    (error,) = read_request(request_of(chain)).errors
    assert "(9951 more)" in error.message


def test_the_work_of_planning_many_tasks_with_a_wide_join_grows_as_their_number() -> None:
    def document(size: int) -> dict[str, Any]:
        edges: Edges = [list(range(max(0, index - 3), index)) for index in range(size)] + [list(range(size // 2))]
        assert planned(request_of(edges)).edges == sum(map(len, edges))
        return request_of(edges)

    half, whole = document(1_060), document(2_120)

    assert lines_of(lambda: planned(whole)) < 2.2 * lines_of(lambda: planned(half))
