"""The dependency graph of a request's tasks: producers of keys, cycles, levels. Pure.

Iterative, with one pass over the edges, so that thousands of tasks and long chains need no recursion. Works on
outlines of tasks, which may be incomplete; see ``outline``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from anabranch.core.names import leading_keys
from anabranch.core.request.envelope import Path
from anabranch.core.request.fields import DependencyKind
from anabranch.core.request.outline import RequestedKey, TaskOutline

SessionKeys = Callable[[str], bool] | Collection[str]


class Dependency(NamedTuple):
    """A key that a task waits for. `producer` is the (group, task) that produces it.

    The plan's form of a dependency. `wire.message_parts.Need` is the form in a record: the same without the
    producer, which the owner of the session knows. Both are built for each dependency of each task, so this one is
    a tuple and not a model.
    """

    key: str
    kind: DependencyKind
    optional: bool
    producer: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks in declared order with their dependencies; ``edges[i]`` are the indexes of the tasks that i waits for.

    ``producers`` has the index of the first task that declares each key. ``unknown`` are the required keys, with
    the index of their task, that nothing provides.
    """

    tasks: tuple[TaskOutline, ...]
    producers: dict[str, int]
    needs: tuple[tuple[Dependency, ...], ...]
    edges: tuple[tuple[int, ...], ...]
    unknown: tuple[tuple[int, RequestedKey], ...]
    shared: Mapping[str, tuple[int, ...]]
    """Keys with a policy -> the indexes of all tasks that produce it."""
    array_keys: tuple[Mapping[str, str], ...]
    """For each task: context path of its expansion -> the key that holds the array."""
    levels: Sequence[int] | None
    """The level of each task; None if there is a cycle."""

    def origin(self, index: int, target: int) -> Path:
        """The path in the request at which task ``index`` names a dependency on task ``target``."""
        wants = wants_of(self.tasks[index], self.array_keys[index])
        return next(want.path for want in wants if target in self.producers_of(want.key))

    def producers_of(self, key: str) -> tuple[int, ...]:
        """The indexes of the tasks that produce a key; several if the key has a policy."""
        if key in self.shared:
            return self.shared[key]
        return (self.producers[key],) if key in self.producers else ()


def build_graph(
    tasks: Sequence[TaskOutline],
    context: Collection[str],
    session_keys: SessionKeys = (),
    policies: Collection[str] = (),
) -> Graph:
    """Resolve every key that a task waits for. ``context`` are the keys of the request's own context, ``policies``
    the keys with a policy, which several tasks may produce."""
    producers: dict[str, int] = {}
    shared: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        for produced in task.produces:
            producers.setdefault(produced.text, index)
            if produced.text in policies:
                shared.setdefault(produced.text, []).append(index)
    in_session = session_keys if callable(session_keys) else frozenset(session_keys).__contains__
    every = {key: tuple(dict.fromkeys(found)) for key, found in shared.items()}
    resolver = _Resolver(tasks, producers, every, frozenset(context), in_session)
    return resolver.graph()


_NO_KEYS: Mapping[str, str] = MappingProxyType({})


class _Resolver:
    def __init__(
        self,
        tasks: Sequence[TaskOutline],
        producers: dict[str, int],
        shared: Mapping[str, tuple[int, ...]],
        context: frozenset[str],
        in_session: Callable[[str], bool],
    ) -> None:
        self._tasks = tasks
        self._producers = producers
        self._shared = shared
        self._context = context
        self._in_session = in_session
        self._labels = [(task.group, task.name) for task in tasks]
        self._unknown: list[tuple[int, RequestedKey]] = []

    def graph(self) -> Graph:
        needs, edges, array_keys = [], [], []
        for index, task in enumerate(self._tasks):
            keys = self._array_keys(task) if task.array_paths else _NO_KEYS
            array_keys.append(keys)
            wants = wants_of(task, keys)
            needs.append(tuple(self._needs(index, task, wants)))
            found = {self._producers[want.key] for want in wants if want.key in self._producers}
            if self._shared:
                found.update(each for want in wants for each in self._shared.get(want.key, ()))
            edges.append(tuple(sorted(found)))
        return Graph(
            tuple(self._tasks),
            self._producers,
            tuple(needs),
            tuple(edges),
            tuple(self._unknown),
            self._shared,
            tuple(array_keys),
            levels_of(edges),
        )

    def _array_keys(self, task: TaskOutline) -> dict[str, str]:
        named = {want.key for want in task.wants}
        return {array.text: self._first_key(array.text, named) for array in task.array_paths}

    def _first_key(self, path: str, named: set[str]) -> str:
        """The longest prefix of a dotted path that is a known key; keys may contain dots themselves."""
        keys = list(leading_keys(path))
        in_request = (key for key in keys if key in named or key in self._producers or key in self._context)
        in_session = (key for key in keys if self._in_session(key))
        # Lazy: the session is asked only for paths that the request does not provide. By default, the first
        # segment of the path is the key, and the others are fields of its value.
        return next(in_request, None) or next(in_session, keys[-1])

    def _needs(self, index: int, task: TaskOutline, wants: Iterable[RequestedKey]) -> Iterator[Dependency]:
        for want in wants:
            producer = self._producers.get(want.key)
            if producer is not None:
                yield Dependency(want.key, "produced", want.optional, self._labels[producer])
            elif (need := self._elsewhere(task, want)) is not None:
                yield need
            else:
                self._unknown.append((index, want))

    def _elsewhere(self, task: TaskOutline, want: RequestedKey) -> Dependency | None:
        if want.key in self._context:
            return Dependency(want.key, "context", want.optional)
        if want.key in task.external:
            return Dependency(want.key, "external", want.optional)
        if self._in_session(want.key):
            return Dependency(want.key, "session", want.optional)
        return Dependency(want.key, "absent", True) if want.optional else None


def wants_of(task: TaskOutline, array_keys: Mapping[str, str]) -> Sequence[RequestedKey]:
    """All keys that a task waits for: those that it names, and those that hold its arrays."""
    return (*task.wants, *_implied(task, array_keys)) if array_keys else task.wants


def _implied(task: TaskOutline, array_keys: Mapping[str, str]) -> Iterator[RequestedKey]:
    """The keys that hold mapped arrays, without those that the task names itself."""
    named = {want.key for want in task.wants}
    for array in task.array_paths:
        key = array_keys[array.text]
        if key not in named:
            named.add(key)
            yield RequestedKey(key, False, array.path)


def levels_of(edges: Sequence[Sequence[int]]) -> list[int] | None:
    """The level of each task: 0 without edges, else one above its highest dependency; None if there is a cycle.

    Kahn's algorithm: a task is done once all its dependencies are; tasks in a cycle never are.
    """
    waiting = [len(targets) for targets in edges]
    dependents: list[list[int]] = [[] for _ in edges]
    for index, targets in enumerate(edges):
        for target in targets:
            dependents[target].append(index)
    levels = [0] * len(edges)
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    done = 0
    while ready:
        index = ready.popleft()
        done += 1
        for dependent in dependents[index]:
            levels[dependent] = max(levels[dependent], levels[index] + 1)
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                ready.append(dependent)
    return levels if done == len(edges) else None


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
