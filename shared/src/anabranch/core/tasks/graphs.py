"""Graphs of tasks: for programs, drawn for people, and as a plan with a forecast. Pure."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from anabranch.core.tasks.dependencies import DependencyResolver
from anabranch.core.tasks.models import Task, TaskExecution

GraphForm = Literal["json", "dot", "mermaid"]


def dependency_graph(tasks: Sequence[Task]) -> dict[str, Any]:
    """`{nodes, edges}`: an edge leads from a task to one that depends on it. Dependencies on other tasks are left
    out."""
    known = {task.id for task in tasks}
    nodes = [
        {
            "id": str(task.id),
            "name": task.name,
            "status": str(task.status),
            "task_type": str(task.task_type),
            "priority": int(task.priority),
            "reason": task.reason,
        }
        for task in tasks
    ]
    edges = [
        {"from": str(each), "to": str(task.id)}
        for task in tasks
        for each in sorted(task.depends_on)
        if each in known
    ]
    return {"nodes": nodes, "edges": edges}


def drawn(graph: Mapping[str, Any], form: Literal["dot", "mermaid"]) -> str:
    """The graph as text of Graphviz or Mermaid."""
    lines = _mermaid(graph) if form == "mermaid" else _dot(graph)
    return "\n".join(lines) + "\n"


def _dot(graph: Mapping[str, Any]) -> Iterable[str]:
    yield "digraph tasks {"
    yield "  rankdir=LR;"
    for node in graph["nodes"]:
        yield f"  {_quoted(node['id'])} [label={_quoted(node['name'] + chr(10) + node['status'])}];"
    for edge in graph["edges"]:
        yield f"  {_quoted(edge['from'])} -> {_quoted(edge['to'])};"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid(graph: Mapping[str, Any]) -> Iterable[str]:
    yield "flowchart LR"
    place = {node["id"]: f"t{number}" for number, node in enumerate(graph["nodes"])}
    for node in graph["nodes"]:
        yield f'  {place[node["id"]]}["{_for_mermaid(node["name"])}<br/>{node["status"]}"]'
    for edge in graph["edges"]:
        yield f"  {place[edge['from']]} --> {place[edge['to']]}"


def _for_mermaid(text: str) -> str:
    """Text in quotes: characters that Mermaid or a browser would read as code are entities."""
    return "".join(each if each.isalnum() or each in " .,:/_-" else f"#{ord(each)};" for each in text)


class Forecast:
    """How long tasks take, from executions that have ended: those with the same name, else with the same type."""

    def __init__(self, executions: Iterable[TaskExecution], tasks: Mapping[str, Task]) -> None:
        by_name: dict[str, list[float]] = defaultdict(list)
        by_type: dict[str, list[float]] = defaultdict(list)
        for each in executions:
            task, seconds = tasks.get(str(each.task_id)), each.duration_seconds
            if task is not None and seconds is not None:
                by_name[task.name].append(seconds)
                by_type[str(task.task_type)].append(seconds)
        self._by_name = {name: _median(found) for name, found in by_name.items()}
        self._by_type = {name: _median(found) for name, found in by_type.items()}

    def seconds(self, task: Task) -> float | None:
        """How long a task takes; None if nothing like it was measured."""
        return self._by_name.get(task.name, self._by_type.get(str(task.task_type)))


def _median(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) / 2) - 1]


def execution_plan(tasks: Sequence[Task], forecast: Forecast, max_concurrent_tasks: int) -> dict[str, Any]:
    """In which order tasks run, what takes longest, and how long all of it takes. Tasks that have ended are left
    out: nothing waits for them any more.

    Raises:
        CircularDependencyError: tasks depend on each other in a circle.
    """
    open_ = {task.id: task for task in tasks if not task.has_ended}
    resolver = DependencyResolver(open_.values())
    graph = resolver.graph()
    order = graph.order()
    measured = {id: forecast.seconds(task) for id, task in open_.items()}
    seconds = {id: value or 0.0 for id, value in measured.items()}
    path = graph.critical_path(seconds)
    is_measured = any(value is not None for value in measured.values())
    duration = _makespan(order, graph.depends_on, seconds, max_concurrent_tasks)
    return {
        "total_tasks": len(order),
        "execution_order": [str(each) for each in order],
        "phases": [
            [{"id": str(id), "name": open_[id].name, "forecast_seconds": measured[id]} for id in phase]
            for phase in graph.phases()
        ],
        "critical_path": [str(each) for each in path],
        "critical_path_seconds": math.fsum(seconds[each] for each in path) if is_measured else None,
        "forecast_seconds": duration if is_measured else None,
        "unmeasured": [str(id) for id in order if measured[id] is None],
        "max_concurrent_tasks": max_concurrent_tasks,
    }


def _makespan(
    order: Sequence[UUID], depends_on: Mapping[UUID, Iterable[UUID]], seconds: Mapping[UUID, float], slots: int
) -> float:
    """When the last task ends if each starts as soon as its dependencies have ended and a slot is free."""
    free_at = [0.0] * min(slots, max(len(order), 1))
    ends: dict[UUID, float] = {}
    # Starts are in the order of readiness, as those of the steward are.
    ready = [(0.0, place) for place, id in enumerate(order) if not tuple(depends_on[id])]
    waiting = {id: len(tuple(depends_on[id])) for id in order}
    place_of = {id: place for place, id in enumerate(order)}
    dependents: dict[UUID, list[UUID]] = defaultdict(list)
    for id in order:
        for each in depends_on[id]:
            dependents[each].append(id)
    heapq.heapify(ready)
    while ready:
        at, place = heapq.heappop(ready)
        id = order[place]
        ends[id] = max(at, heapq.heappop(free_at)) + seconds[id]
        heapq.heappush(free_at, ends[id])
        for each in dependents[id]:
            waiting[each] -= 1
            if not waiting[each]:
                heapq.heappush(ready, (max(ends[needed] for needed in depends_on[each]), place_of[each]))
    return max(ends.values(), default=0.0)
