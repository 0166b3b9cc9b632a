"""The order of tasks that wait for each other: their levels, and cycles. Pure.

Iterative, so that thousands of tasks and long chains need no recursion. ``edges[i]`` are the nodes that node i
waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence


def levels_of(edges: Sequence[Sequence[int]], tasks: int | None = None) -> list[int] | None:
    """The level of each task: 0 without edges, else one above its highest dependency; None if there is a cycle.

    Nodes from ``tasks`` on are no tasks but ends of loops, which have the level of the highest node that they wait
    for. Kahn's algorithm: a node is done once all its dependencies are; nodes in a cycle never are.
    """
    count = len(edges) if tasks is None else tasks
    waiting = [len(targets) for targets in edges]
    dependents: list[list[int]] = [[] for _ in edges]
    for index, targets in enumerate(edges):
        for target in targets:
            dependents[target].append(index)
    levels = [0] * len(edges)
    ready = deque(index for index, left in enumerate(waiting) if left == 0)
    done = 0
    while ready:
        index = ready.popleft()
        done += 1
        for dependent in dependents[index]:
            levels[dependent] = max(levels[dependent], levels[index] + (dependent < count))
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                ready.append(dependent)
    return levels[:count] if done == len(edges) else None


def find_cycles(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """A shortest cycle for each strongly connected component, from its first declared task.

    ``[a, b, a]``: a waits for b, b waits for a. Empty if there is no cycle.
    """
    # A component of one task is a cycle only if the task depends on itself.
    cyclic = [sorted(each) for each in _components(edges) if len(each) > 1 or each[0] in edges[each[0]]]
    return [_shortest_cycle(edges, component) for component in sorted(cyclic)]


def _shortest_cycle(edges: Sequence[Sequence[int]], component: Sequence[int]) -> list[int]:
    start, inside = component[0], set(component)
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue and start not in came_from:
        index = queue.popleft()
        for target in edges[index]:
            if target in inside and target not in came_from:
                came_from[target] = index
                queue.append(target)
    path = [start]
    while len(path) == 1 or path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def _components(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strongly connected components."""
    search = _Tarjan(edges)
    for index in range(len(edges)):
        search.visit(index)
    return search.found


class _Tarjan:
    """Tarjan's algorithm with an explicit stack, because a chain of ten thousand tasks would exceed Python's
    recursion limit."""

    def __init__(self, edges: Sequence[Sequence[int]]) -> None:
        self.found: list[list[int]] = []
        self._edges = edges
        self._order: dict[int, int] = {}
        self._lowest: dict[int, int] = {}
        self._open: list[int] = []
        self._is_open: set[int] = set()

    def visit(self, root: int) -> None:
        """Find the components that are reachable from ``root`` and not found yet."""
        trail = [] if root in self._order else [self._enter(root)]
        while trail:
            index, targets = trail[-1]
            target = self._next_new(index, targets)
            if target is not None:
                trail.append(self._enter(target))
                continue
            trail.pop()
            self._leave(index)
            if trail:
                self._lower(trail[-1][0], self._lowest[index])

    def _enter(self, index: int) -> tuple[int, Iterator[int]]:
        self._order[index] = self._lowest[index] = len(self._order)
        self._open.append(index)
        self._is_open.add(index)
        return index, iter(self._edges[index])

    def _next_new(self, index: int, targets: Iterator[int]) -> int | None:
        for target in targets:
            if target not in self._order:
                return target
            if target in self._is_open:
                self._lower(index, self._order[target])
        return None

    def _lower(self, index: int, order: int) -> None:
        self._lowest[index] = min(self._lowest[index], order)

    def _leave(self, index: int) -> None:
        if self._lowest[index] != self._order[index]:
            return
        component: list[int] = []
        while not component or component[-1] != index:
            component.append(self._open.pop())
        self._is_open.difference_update(component)
        self.found.append(component)
