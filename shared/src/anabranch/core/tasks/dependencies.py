"""The order of tasks that depend on each other. Pure.

Ties are broken by priority, the higher first, then by creation time, then by the order in which tasks were added.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from anabranch.core.errors import AnabranchError
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import SELF_DEPENDENCY, Task

Node = TypeVar("Node")


class CircularDependencyError(AnabranchError, ValueError):
    """Tasks depend on each other in a circle. `path` begins and ends with the same task."""

    def __init__(self, path: Sequence[object]) -> None:
        self.path = tuple(path)
        super().__init__(self.path)

    def __str__(self) -> str:
        return f"Circular dependency: {' -> '.join(map(str, self.path))}"


class Graph(Generic[Node]):
    """Nodes and what each depends on. Dependencies on other nodes than these are left out.

    Args:
        depends_on: node -> the nodes that it depends on, in the order of preference.
    """

    def __init__(self, depends_on: Mapping[Node, Iterable[Node]]) -> None:
        self._place = {node: place for place, node in enumerate(depends_on)}
        self.depends_on = {
            node: tuple(dict.fromkeys(each for each in needed if each in self._place))
            for node, needed in depends_on.items()
        }
        self.dependents: dict[Node, list[Node]] = {node: [] for node in depends_on}
        for node, needed in self.depends_on.items():
            for each in needed:
                self.dependents[each].append(node)

    def order(self) -> list[Node]:
        """The nodes, each after those that it depends on, otherwise in the order of preference.

        Raises:
            CircularDependencyError: there is a circle.
        """
        waiting = {node: len(needed) for node, needed in self.depends_on.items()}
        ready = [(self._place[node], node) for node, count in waiting.items() if not count]
        heap = [place for place, _ in ready]
        heapq.heapify(heap)
        nodes = list(self._place)
        found = []
        while heap:
            node = nodes[heapq.heappop(heap)]
            found.append(node)
            for each in self.dependents[node]:
                waiting[each] -= 1
                if not waiting[each]:
                    heapq.heappush(heap, self._place[each])
        if len(found) < len(nodes):
            raise CircularDependencyError(self._circle({node for node, count in waiting.items() if count}))
        return found

    def phases(self) -> list[list[Node]]:
        """Groups of nodes that may run side by side; each depends on earlier groups only.

        Raises:
            CircularDependencyError: there is a circle.
        """
        level: dict[Node, int] = {}
        for node in self.order():
            level[node] = 1 + max((level[each] for each in self.depends_on[node]), default=-1)
        found: list[list[Node]] = [[] for _ in range(1 + max(level.values(), default=-1))]
        for node in self._place:
            found[level[node]].append(node)
        return found

    def critical_path(self, weight: Mapping[Node, float]) -> list[Node]:
        """The chain of dependencies with the largest sum of weights; a node without a weight counts as 0.

        Raises:
            CircularDependencyError: there is a circle.
        """
        end: dict[Node, float] = {}
        previous: dict[Node, Node | None] = {}
        for node in self.order():
            latest = max(self.depends_on[node], key=lambda each: end[each], default=None)
            previous[node] = latest
            end[node] = weight.get(node, 0.0) + (0.0 if latest is None else end[latest])
        last = max(end, key=lambda each: end[each], default=None)
        path: list[Node] = []
        while last is not None:
            path.append(last)
            last = previous[last]
        return path[::-1]

    def _circle(self, within: set[Node]) -> list[Node]:
        """A circle of these nodes, each of which depends on another one of them."""
        node = min(within, key=lambda each: self._place[each])
        path: dict[Node, None] = {}
        while node not in path:
            path[node] = None
            node = next(each for each in self.depends_on[node] if each in within)
        circle = list(path)
        return [*circle[circle.index(node) :], node]


def preference(task: Task) -> tuple[int, float]:
    """The sort key of tasks that may start: the higher priority first, then the earlier one."""
    return -int(task.priority), task.created_at.timestamp()


class DependencyResolver:
    """Knows tasks and in which order they may run."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._tasks: dict[UUID, Task] = {}
        for task in tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> None:
        """Add a task, or replace the one with its id."""
        self._tasks[task.id] = task

    def remove_task(self, task_id: UUID) -> None:
        """Remove a task, if it is known."""
        self._tasks.pop(task_id, None)

    @property
    def tasks(self) -> Sequence[Task]:
        return tuple(self._tasks.values())

    def add_dependency(self, task_id: UUID, depends_on: UUID) -> None:
        """Let a task start only after another one.

        Raises:
            KeyError: the task is not known.
            ValueError: the other task does not exist, or is the task itself.
            CircularDependencyError: the other task depends on the task.
        """
        task = self._tasks[task_id]
        changed = task.model_copy(update={"depends_on": {*task.depends_on, depends_on}})
        if task_id == depends_on:
            raise ValueError(SELF_DEPENDENCY)
        if depends_on not in self._tasks:
            raise ValueError(does_not_exist(depends_on))
        if circle := self._circle_of(changed):
            raise CircularDependencyError(circle)
        task.add_dependency(depends_on)

    def validate_dependencies(self, task: Task) -> list[str]:
        """Why the dependencies of a task are wrong; empty if they are not. The task need not have been added."""
        problems = []
        if task.id in task.depends_on:
            problems.append(SELF_DEPENDENCY)
        unknown = [each for each in task.depends_on if each != task.id and each not in self._tasks]
        problems += [does_not_exist(each) for each in sorted(unknown)]
        if task.id not in task.depends_on and (circle := self._circle_of(task)):
            problems.append(str(CircularDependencyError(circle)))
        return problems

    def get_execution_order(self, task_ids: Iterable[UUID] | None = None) -> list[UUID]:
        """The ids of all tasks, or of these, in an order in which they may run.

        Raises:
            CircularDependencyError: tasks depend on each other.
        """
        return self.graph(task_ids).order()

    def get_execution_phases(self, task_ids: Iterable[UUID] | None = None) -> list[list[UUID]]:
        """Groups of tasks that may run side by side. Raises as `get_execution_order`."""
        return self.graph(task_ids).phases()

    def get_ready_tasks(self) -> list[Task]:
        """The tasks that may start now, the most urgent first."""
        completed = {task.id for task in self._tasks.values() if task.status == TaskStatus.COMPLETED}
        ready = [task for task in self._tasks.values() if task.is_ready_to_run(completed)]
        return sorted(ready, key=preference)

    def get_dependents(self, task_id: UUID) -> list[UUID]:
        """The tasks that depend on a task directly."""
        return [task.id for task in self._tasks.values() if task_id in task.depends_on]

    def graph(self, task_ids: Iterable[UUID] | None = None) -> Graph[UUID]:
        """All tasks, or these, with their dependencies."""
        wanted = self._tasks.keys() if task_ids is None else set(task_ids)
        tasks = sorted((task for task in self._tasks.values() if task.id in wanted), key=preference)
        return Graph({task.id: sorted(task.depends_on) for task in tasks})

    def _circle_of(self, task: Task) -> list[UUID]:
        """A circle through this task; empty if there is none."""
        known = {**self._tasks, task.id: task}
        return circle_through(task.id, lambda each: known[each].depends_on if each in known else ())


def circle_through(start: Node, depends_on: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """A circle of dependencies that begins and ends with `start`; empty if there is none."""
    came_from: dict[Node, Node] = {}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        for each in depends_on(node):
            if each == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return [*path[::-1], start]
            if each not in came_from:
                came_from[each] = node
                waiting.append(each)
    return []


def does_not_exist(task_id: object) -> str:
    """The problem of a dependency that nobody knows."""
    return f"Dependency task {task_id} does not exist"
