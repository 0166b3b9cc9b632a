"""The dependency graph of a request's tasks: producers of keys, needs, levels. Pure.

With one pass over the edges. Works on outlines of tasks, which may be incomplete; see ``outline``. What control
flow adds is in ``flow_links``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from anabranch.core.names import leading_keys, outcome_name
from anabranch.core.request.envelope import Path
from anabranch.core.request.fields import DependencyKind
from anabranch.core.request.flow_links import ROOT, FlowLinks, Link, link
from anabranch.core.request.ordering import levels_of
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
    unless_failed: bool = False


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
    flow: FlowLinks | None = None
    """What control flow adds; None for a request without."""
    order: Sequence[Sequence[int]] = ()
    """With ``flow``: the edges by which tasks wait for each other, in which a loop has a node for its end."""

    def origin(self, index: int, target: int) -> Path | None:
        """The path in the request at which task ``index`` names a dependency on task ``target``; None if it has
        none, as a loop on its body."""
        wants = wants_of(self.tasks[index], self.array_keys[index])
        named = (want.path for want in wants if target in self.producers_of(want.key, index))
        found = next(named, None)
        return self.flow.origin(self.tasks[index], index, target) if found is None and self.flow else found

    def producers_of(self, key: str, reader: int = -1) -> tuple[int, ...]:
        """The indexes of the tasks that produce a key, as task ``reader`` sees it; several if the key has a
        policy, or if at most one of them runs."""
        if self.flow is not None:
            return self.flow.producers_of(key, reader)
        if key in self.shared:
            return self.shared[key]
        return (self.producers[key],) if key in self.producers else ()

    def scope_of(self, index: int) -> int:
        """The index of the innermost loop around a task; `ROOT` if there is none."""
        return self.flow.loops[index][0] if self.flow is not None and self.flow.loops[index] else ROOT

    def may_repeat(self, scope: int, key: str) -> bool:
        """True if several tasks of a scope may produce a key."""
        if scope == ROOT and key in self.shared:
            return True
        return self.flow is not None and key in self.flow.alternatives.get(scope, ())

    def producer_of(self, key: str, reader: int) -> int | None:
        """The first of these tasks."""
        if self.flow is None:
            return self.producers.get(key)
        return next(iter(self.flow.producers_of(key, reader)), None)


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
    is_plain = True
    for index, task in enumerate(tasks):
        if task.flow is not None:
            is_plain = False
        for produced in task.produces:
            producers.setdefault(produced.text, index)
            if produced.text in policies:
                shared.setdefault(produced.text, []).append(index)
    in_session = session_keys if callable(session_keys) else frozenset(session_keys).__contains__
    every = {key: tuple(dict.fromkeys(found)) for key, found in shared.items()}
    if is_plain:
        return _Resolver(tasks, producers, every, frozenset(context), in_session).graph()
    links = link(tasks, policies)
    return _FlowResolver(tasks, links, frozenset(context), in_session).graph()


_NO_KEYS: Mapping[str, str] = MappingProxyType({})


class _Resolver:
    """Resolves the keys of a request without control flow."""

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


class _FlowResolver(_Resolver):
    """Resolves the keys of a request with control flow: each task sees the keys of its loops."""

    def __init__(
        self,
        tasks: Sequence[TaskOutline],
        links: FlowLinks,
        context: frozenset[str],
        in_session: Callable[[str], bool],
    ) -> None:
        super().__init__(tasks, links.root, links.shared, context, in_session)
        self._links = links

    def graph(self) -> Graph:
        needs, edges, array_keys = [], [], []
        for index, task in enumerate(self._tasks):
            keys = self._paths(index, task)
            array_keys.append(keys)
            wants = wants_of(task, keys)
            targets = self._links.targets[index]
            needs.append((*self._needs(index, task, wants), *_needs_of_tasks(targets)))
            found = {each for want in wants for each in self._links.producers_of(want.key, index)}
            found.update(target.task for target in targets)
            edges.append(found)
        return Graph(
            tuple(self._tasks),
            self._producers,
            tuple(needs),
            tuple([tuple(sorted(found)) for found in self._links.with_bodies(edges)]),
            tuple(self._unknown),
            self._shared,
            tuple(array_keys),
            self._links.levels(edges),
            self._links,
            self._links.ordered(edges),
        )

    def _paths(self, index: int, task: TaskOutline) -> Mapping[str, str]:
        """The key of each array and of each field of a condition; not of what the task's own loops provide."""
        links, named = self._links, {want.key for want in task.wants}
        fields = task.flow.fields if task.flow is not None else ()
        texts = dict.fromkeys(each.text for each in (*task.array_paths, *fields))
        return {text: self._key(index, text, named) for text in texts if not links.is_own(index, text)}

    def _key(self, index: int, path: str, named: set[str]) -> str:
        keys = list(leading_keys(path))
        visible = (
            key for key in keys if key in named or self._links.producers_of(key, index) or key in self._context
        )
        return next(visible, None) or next(filter(self._in_session, keys), keys[-1])

    def _needs(self, index: int, task: TaskOutline, wants: Iterable[RequestedKey]) -> Iterator[Dependency]:
        for want in wants:
            producers = self._links.producers_of(want.key, index)
            if producers:
                yield Dependency(want.key, "produced", want.optional, self._labels[producers[0]])
            elif (need := self._elsewhere(task, want)) is not None:
                yield need
            else:
                self._unknown.append((index, want))


def _needs_of_tasks(targets: Iterable[Link]) -> Iterator[Dependency]:
    """A need for each task that is named, whose end is waited for."""
    for target in targets:
        key = outcome_name(*target.label)
        is_optional = target.mode != "completed"
        yield Dependency(key, "task", is_optional, target.label, target.mode == "not_failed")


def wants_of(task: TaskOutline, array_keys: Mapping[str, str]) -> Sequence[RequestedKey]:
    """All keys that a task waits for: those that it names, and those that hold its arrays."""
    return (*task.wants, *_implied(task, array_keys)) if array_keys else task.wants


def _implied(task: TaskOutline, array_keys: Mapping[str, str]) -> Iterator[RequestedKey]:
    """The keys that hold mapped arrays, without those that the task names itself."""
    named = {want.key for want in task.wants}
    for array in task.array_paths:
        key = array_keys.get(array.text)
        if key is not None and key not in named:  # a name of a loop has no key
            named.add(key)
            yield RequestedKey(key, False, array.path)
    for field in task.flow.fields if task.flow is not None else ():
        found = array_keys.get(field.text)
        if found is not None and found not in named:
            named.add(found)
            yield RequestedKey(found, True, field.path)
