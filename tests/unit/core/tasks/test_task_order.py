"""The order of tasks that depend on each other: of random graphs, and of some by hand."""

from __future__ import annotations

import itertools
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_examples import id_of, task

from anabranch.core.tasks.dependencies import CircularDependencyError, DependencyResolver, Graph
from anabranch.core.tasks.kinds import TaskPriority, TaskStatus
from anabranch.core.tasks.models import Task

SETUP, ANALYSIS, OTHER, REPORT = 1, 2, 3, 4


@st.composite
def task_graphs(draw: st.DrawFn, acyclic: bool = True) -> list[Task]:
    """Tasks with random priorities, each of which depends on some of the others."""
    size = draw(st.integers(0, 20))
    order = draw(st.permutations(range(1, size + 1)))
    made = []
    for place, number in enumerate(order):
        allowed = order[:place] if acyclic else [each for each in order if each != number]
        needed = draw(st.sets(st.sampled_from(allowed), max_size=4)) if allowed else set()
        priority = draw(st.sampled_from(sorted({*TaskPriority})))
        made.append(task(number, tuple(needed), priority=priority))
    return made


@given(task_graphs())
def test_each_task_comes_after_those_it_depends_on(tasks: list[Task]) -> None:
    order = DependencyResolver(tasks).get_execution_order()

    assert sorted(order) == sorted(each.id for each in tasks)
    place = {id: at for at, id in enumerate(order)}
    assert all(place[needed] < place[each.id] for each in tasks for needed in each.depends_on)


@given(task_graphs())
def test_of_tasks_that_may_start_the_most_urgent_comes_first(tasks: list[Task]) -> None:
    known = {each.id: each for each in tasks}
    done: set[object] = set()
    for id in DependencyResolver(tasks).get_execution_order():
        ready = [each for each in tasks if each.id not in done and each.depends_on <= done]
        assert known[id] == min(ready, key=lambda each: (-each.priority, each.created_at))
        done.add(id)


@given(task_graphs())
def test_phases_are_the_smallest_groups_that_may_run_side_by_side(tasks: list[Task]) -> None:
    phases = DependencyResolver(tasks).get_execution_phases()

    level = {id: number for number, phase in enumerate(phases) for id in phase}
    assert len(level) == len(tasks)
    for each in tasks:
        assert level[each.id] == max((level[needed] + 1 for needed in each.depends_on), default=0)


@given(task_graphs(acyclic=False))
def test_an_order_exists_or_a_real_circle_is_named(tasks: list[Task]) -> None:
    depends_on = {each.id: each.depends_on for each in tasks}
    found = _circle_or_order(DependencyResolver(tasks))
    if not isinstance(found, CircularDependencyError):
        assert len(found) == len(tasks)
        return
    path = found.path
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1
    assert all(after in depends_on[before] for before, after in itertools.pairwise(path))
    assert " -> ".join(map(str, path)) in str(found)


def _circle_or_order(resolver: DependencyResolver) -> CircularDependencyError | list[UUID]:
    try:
        return resolver.get_execution_order()
    except CircularDependencyError as error:
        return error


@given(task_graphs(acyclic=False))
def test_a_dependency_is_taken_exactly_if_it_closes_no_circle(tasks: list[Task]) -> None:
    resolver = DependencyResolver(each.model_copy(update={"depends_on": set()}) for each in tasks)
    for each in tasks:
        for needed in sorted(each.depends_on):
            with suppress(CircularDependencyError):
                resolver.add_dependency(each.id, needed)
            # Neither accepted nor refused dependencies leave a circle behind.
            resolver.get_execution_order()
            kept = next(task for task in resolver.tasks if task.id == each.id)
            assert needed in kept.depends_on or resolver.validate_dependencies(
                kept.model_copy(update={"depends_on": {*kept.depends_on, needed}})
            )


def test_a_diamond_has_three_phases() -> None:
    tasks = [
        task(SETUP),
        task(ANALYSIS, (SETUP,)),
        task(OTHER, (SETUP,)),
        task(REPORT, (ANALYSIS, OTHER)),
    ]
    phases = DependencyResolver(tasks).get_execution_phases()

    assert phases == [[id_of(SETUP)], [id_of(ANALYSIS), id_of(OTHER)], [id_of(REPORT)]]


def test_wrong_dependencies_are_all_named() -> None:
    resolver = DependencyResolver([task(1, (2,)), task(2)])

    assert resolver.validate_dependencies(task(3, (3, 9))) == [
        "Task cannot depend on itself",
        f"Dependency task {id_of(9)} does not exist",
    ]
    circle = f"{id_of(2)} -> {id_of(1)} -> {id_of(2)}"
    assert resolver.validate_dependencies(task(2, (1,))) == [f"Circular dependency: {circle}"]
    assert resolver.validate_dependencies(task(3, (1, 2))) == []


def test_a_resolver_refuses_dependencies_that_cannot_be() -> None:
    resolver = DependencyResolver([task(1), task(2, (1,))])

    with pytest.raises(ValueError, match="Task cannot depend on itself"):
        resolver.add_dependency(id_of(1), id_of(1))
    with pytest.raises(ValueError, match=f"Dependency task {id_of(7)} does not exist"):
        resolver.add_dependency(id_of(1), id_of(7))
    with pytest.raises(CircularDependencyError):
        resolver.add_dependency(id_of(1), id_of(2))
    with pytest.raises(KeyError):
        resolver.add_dependency(id_of(8), id_of(1))


def test_tasks_are_ready_when_everything_they_need_has_completed() -> None:
    done, failed = {"status": TaskStatus.COMPLETED}, {"status": TaskStatus.FAILED}
    resolver = DependencyResolver(
        [task(1, **done), task(2, **failed), task(3, (1,)), task(4, (2,)), task(5, priority="high")]
    )

    assert [each.id for each in resolver.get_ready_tasks()] == [id_of(5), id_of(3)]


def test_the_critical_path_is_the_longest_by_weight() -> None:
    graph = Graph({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")})

    assert graph.critical_path({"a": 1, "b": 5, "c": 2, "d": 1}) == ["a", "b", "d"]
    assert graph.critical_path({"a": 1, "b": 1, "c": 2, "d": 1}) == ["a", "c", "d"]
    assert Graph[str]({}).critical_path({}) == []


def test_ten_thousand_tasks_in_a_row_are_ordered() -> None:
    count = 10_000
    tasks = [task(number, (number - 1,) if number > 1 else ()) for number in range(1, count + 1)]

    assert DependencyResolver(tasks[::-1]).get_execution_order() == [each.id for each in tasks]
