"""Graphs of tasks to be executed: whether they can be, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from anabranch.core.tasks.dependencies import CircularDependencyError, Graph
from anabranch.core.tasks.errors import TaskRefused


def task_graph(given: Mapping[Any, Iterable[Any]]) -> dict[str, list[str]]:
    """The graph with its ids as text, each dependency once.

    Raises:
        TaskRefused: it is no mapping of task ids to lists of task ids.
    """
    if not isinstance(given, Mapping):
        raise TaskRefused((f"a task graph is an object of task id to a list of task ids, not {given!r:.100}",))
    graph: dict[str, list[str]] = {}
    for node, needed in given.items():
        if isinstance(needed, str) or not isinstance(needed, Iterable):
            raise TaskRefused(
                (f"the dependencies of task {node} must be a list of task ids, not {needed!r:.100}",)
            )
        graph[str(node)] = list(dict.fromkeys(map(str, needed)))
    return graph


def task_order(graph: Mapping[str, Collection[str]], known: Collection[str]) -> list[str]:
    """The tasks of a graph, each after those that it depends on.

    Raises:
        TaskRefused: with each task that does not exist and each dependency outside the graph, else with a cycle.
    """
    problems = [task_does_not_exist(node) for node in graph if node not in known]
    problems += [
        f"Dependency task {each} of task {node} is not in the graph"
        for node, needed in graph.items()
        for each in needed
        if each not in graph
    ]
    if problems:
        raise TaskRefused(tuple(problems))
    try:
        return Graph(graph).order()
    except CircularDependencyError as error:
        raise TaskRefused((f"Graph contains cycles: {' -> '.join(map(str, error.path))}",)) from None


def params_of_graph(
    given: Mapping[Any, Mapping[str, Any]] | None, graph: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The workflow parameters of each task.

    Raises:
        TaskRefused: there are parameters of a task that the graph does not have, or they are no object.
    """
    found = {str(node): params for node, params in (given or {}).items()}
    problems = [
        f"workflow_params has {node}, which is no task of the graph" for node in found if node not in graph
    ]
    problems += [
        f"workflow_params of task {node} must be an object"
        for node, params in found.items()
        if node in graph and not isinstance(params, Mapping)
    ]
    if problems:
        raise TaskRefused(tuple(problems))
    return {node: dict(params) for node, params in found.items()}


def task_does_not_exist(task_id: object) -> str:
    """The problem of a task that nobody knows."""
    return f"Task {task_id} does not exist"
