"""What control flow adds to the graph of a request: named tasks, loops, keys with several producers. Pure.

A key that a task of a loop body produces is seen by the tasks of that loop. Others see the keys that the task with
the `loop` itself declares. So each loop has a table of producers, and the request has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from anabranch.core.names import leading_keys
from anabranch.core.request.envelope import Path
from anabranch.core.request.exclusion import Exclusion
from anabranch.core.request.flow import LOOP_NAMES
from anabranch.core.request.flow_outline import Mode, Target
from anabranch.core.request.ordering import levels_of
from anabranch.core.request.outline import TaskOutline

ROOT = -1
"""The number of the scope that is the run itself, in place of the index of a loop."""
RUN_NAME = "run"
"""What templates and conditions of the tasks in `finally` see of the run: its status, its failures."""


class Link(NamedTuple):
    """A task that another one names, and how it has to end."""

    task: int
    label: tuple[str, str]
    mode: Mode
    path: Path


@dataclass(slots=True)
class FlowLinks:
    """The links of a request's tasks.

    Attributes:
        loops: for each task, the indexes of the tasks that repeat it, the innermost first.
        targets: for each task, the tasks that it names in `after`, `follows` and `branch`.
        tables: for each scope, the tasks that produce a key in it.
        shared: keys of the run with a policy, with the tasks that produce them.
        alternatives: by scope, the keys that at most one of several tasks produces, with these tasks.
        unknown: tasks that are named and do not exist, with the index of the task that names each.
        unreachable: tasks in a loop that a task outside of it names in `follows` or `branch`, or the loop itself.
    """

    loops: list[tuple[int, ...]]
    targets: list[tuple[Link, ...]]
    tables: dict[int, dict[str, tuple[int, ...]]]
    shared: dict[str, tuple[int, ...]]
    is_final: list[bool]
    alternatives: dict[int, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    unknown: list[tuple[int, Target]] = field(default_factory=list)
    unreachable: list[tuple[int, Link]] = field(default_factory=list)
    repeaters: list[int] = field(default_factory=list)
    """The indexes of the tasks with a `loop`."""

    @property
    def root(self) -> dict[str, int]:
        """The first producer of each key of the run."""
        return {key: found[0] for key, found in self.tables[ROOT].items()}

    def producers_of(self, key: str, reader: int) -> tuple[int, ...]:
        """The tasks that produce a key as task `reader` sees it (`ROOT`: a task that is in no loop)."""
        for scope in (*self.loops[reader], ROOT) if reader != ROOT else (ROOT,):
            found = self.tables[scope].get(key) if scope in self.tables else None
            if found:
                is_one_of_several = key in self.alternatives.get(scope, ()) or (
                    scope == ROOT and key in self.shared
                )
                return found if is_one_of_several else found[:1]
        return ()

    def declared_by(self, key: str, reader: int) -> tuple[int, ...]:
        """All tasks that declare a key as task `reader` sees it, even if it is an error that they are several."""
        tables = (self.tables[scope] for scope in (*self.loops[reader], ROOT) if scope in self.tables)
        return next((table[key] for table in tables if key in table), ())

    def is_own(self, index: int, path: str) -> bool:
        """True if a path is of a name that the task's loops provide, or of a key of the loop's own body."""
        first = path.partition(".")[0]
        if first in LOOP_NAMES and (self.loops[index] or index in self.tables):
            return True
        if self.is_final[index] and first == RUN_NAME:
            return True
        return any(key in self.tables[index] for key in leading_keys(path)) if index in self.tables else False

    def origin(self, task: TaskOutline, index: int, target: int) -> Path | None:
        """The path at which a task names another one, or its loop."""
        found = next((link.path for link in self.targets[index] if link.task == target), None)
        if found is None and task.flow is not None and task.flow.in_loop and target in self.loops[index][:1]:
            return task.flow.in_loop.path
        return found

    def with_bodies(self, edges: Sequence[Collection[int]]) -> list[set[int]]:
        """The edges of all tasks, with those from each task of a loop body to its loop."""
        return [{*found, *self.loops[index][:1]} for index, found in enumerate(edges)]

    def ordered(self, edges: Sequence[Collection[int]]) -> list[list[int]]:
        """The edges by which tasks wait for each other.

        A loop is two nodes: that of its task is its begin, which its body waits for, and an added one is its end,
        which waits for the body, and which all others wait for.
        """
        ends = {loop: len(edges) + number for number, loop in enumerate(self.repeaters)}
        if not ends:
            return [sorted(found) for found in edges]
        after: list[set[int]] = [set() for _ in range(len(edges) + len(ends))]
        for index, found in enumerate(edges):
            # A task of a body does not wait for the end of its own loop.
            after[index] = {each if each in self.loops[index] else ends.get(each, each) for each in found}
            for loop in self.loops[index][:1]:
                after[index].add(loop)
                after[ends[loop]].add(ends.get(index, index))
        for loop, end in ends.items():
            after[end].add(loop)
        return [sorted(found) for found in after]

    def levels(self, edges: Sequence[Collection[int]]) -> list[int] | None:
        """The level of each task; see `levels_of`. Tasks in `finally` come after all others."""
        levels = levels_of(self.ordered(edges), len(edges))
        if levels is None or not any(self.is_final):
            return levels
        first = (
            max((level for level, final in zip(levels, self.is_final, strict=True) if not final), default=-1) + 1
        )
        own = [self._only_final(index, edges) for index in range(len(edges))]
        among = levels_of(own) or []
        return [first + among[at] if self.is_final[at] else level for at, level in enumerate(levels)]

    def _only_final(self, index: int, edges: Sequence[Collection[int]]) -> list[int]:
        return [target for target in edges[index] if self.is_final[target]] if self.is_final[index] else []

    def task_of(self, node: int) -> int:
        """The task of a node of `ordered`."""
        count = len(self.loops)
        return node if node < count else self.repeaters[node - count]


def link(tasks: Sequence[TaskOutline], policies: Collection[str]) -> FlowLinks:
    """The links of a request's tasks. ``policies`` are the keys with a policy."""
    by_label: dict[tuple[str, str], int] = {}
    for index, task in enumerate(tasks):
        by_label.setdefault((task.group, task.name), index)
    unknown: list[tuple[int, Target]] = []
    loops = [_loops_of(tasks, index, by_label) for index in range(len(tasks))]
    targets = [tuple(_links_of(index, tasks, by_label, loops, unknown)) for index in range(len(tasks))]
    tables = _tables(tasks, loops)
    root = tables[ROOT]
    links = FlowLinks(
        loops,
        targets,
        tables,
        shared={key: root[key] for key in root if key in policies},
        is_final=[task.flow is not None and task.flow.is_final for task in tasks],
        unknown=unknown,
        repeaters=[index for index, task in enumerate(tasks) if task.flow is not None and task.flow.repeats],
    )
    links.unreachable = [
        (index, each)
        for index, found in enumerate(targets)
        for each in found
        if not set(loops[each.task]) <= {*loops[index]}
    ]
    exclusion = Exclusion(tasks, targets, links.declared_by)
    for scope, table in tables.items():
        several = {
            key: found
            for key, found in table.items()
            if len(found) > 1 and not (scope == ROOT and key in policies) and exclusion.of_all(found)
        }
        if several:
            links.alternatives[scope] = several
    return links


def _loops_of(
    tasks: Sequence[TaskOutline], index: int, by_label: Mapping[tuple[str, str], int]
) -> tuple[int, ...]:
    found: list[int] = []
    flow = tasks[index].flow
    while flow is not None and flow.in_loop is not None:
        loop = by_label.get((tasks[index].group, flow.in_loop.text))
        if loop is None or loop in found:  # reported by the checks
            break
        found.append(loop)
        flow = tasks[loop].flow
    return tuple(found)


def _links_of(
    index: int,
    tasks: Sequence[TaskOutline],
    by_label: Mapping[tuple[str, str], int],
    loops: Sequence[tuple[int, ...]],
    unknown: list[tuple[int, Target]],
) -> Iterable[Link]:
    """One link for each task that is named. The strictest one counts, if a task is named more than once."""
    found: dict[int, Link] = {}
    flow = tasks[index].flow
    for target in flow.targets if flow is not None else ():
        at = by_label.get((target.group, target.task))
        if at is None:
            unknown.append((index, target))
            continue
        is_branch = flow is not None and flow.branch is not None and target is flow.branch.switch
        if not is_branch and target.mode != "not_failed":
            at = _as_seen_from(index, at, loops)
        known = found.get(at)
        if known is None or _STRICTNESS[target.mode] > _STRICTNESS[known.mode]:
            found[at] = Link(at, (tasks[at].group, tasks[at].name), target.mode, target.path)
    return found.values()


def _as_seen_from(index: int, at: int, loops: Sequence[tuple[int, ...]]) -> int:
    """The task that `after` waits for: outside of a loop, a task of its body has ended when the loop has.

    A loop cannot wait for its own body: then the task itself is returned, which is unreachable.
    """
    outer = next((loop for loop in reversed(loops[at]) if loop not in loops[index]), at)
    return at if outer == index else outer


_STRICTNESS: Mapping[Mode, int] = {"ended": 0, "not_failed": 1, "completed": 2}


def _tables(
    tasks: Sequence[TaskOutline], loops: Sequence[tuple[int, ...]]
) -> dict[int, dict[str, tuple[int, ...]]]:
    found: dict[int, dict[str, list[int]]] = {ROOT: {}}
    for index, task in enumerate(tasks):
        if task.flow is not None and task.flow.repeats:
            found.setdefault(index, {})
        table = found.setdefault(loops[index][0] if loops[index] else ROOT, {})
        for produced in task.produces:
            producers = table.setdefault(produced.text, [])
            if producers[-1:] != [index]:
                producers.append(index)
    return {scope: {key: tuple(each) for key, each in table.items()} for scope, table in found.items()}
