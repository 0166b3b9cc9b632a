"""Checks of control flow: tasks that are named, loops, branches, tasks in `finally`. Pure.

Each check yields every problem that it finds; see `validation`. Nothing is checked of a request without control
flow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from anabranch.core.errors import Code, Problem
from anabranch.core.request.envelope import Path
from anabranch.core.request.flow import LOOP_NAMES
from anabranch.core.request.flow_links import FlowLinks
from anabranch.core.request.flow_outline import Declared, Target
from anabranch.core.request.graph import Graph
from anabranch.core.request.models import COMPENSATE
from anabranch.core.request.outline import TaskOutline
from anabranch.core.request.validation import MAX_SUGGESTED, Pointer, suggestion


def flow_problems(graph: Graph, policies: Collection[str], pointer: Pointer) -> Iterator[Problem]:
    """All problems of the control flow of a request."""
    links = graph.flow
    if links is None:
        return
    yield from _unknown_tasks(graph, links, pointer)
    yield from _out_of_reach(graph, links, pointer)
    yield from _branches(graph, links, pointer)
    yield from _names_in_loops(graph, links, pointer)
    yield from _error_keys(graph, policies, pointer)
    yield from _finally(graph, links, pointer)
    yield from _compensations(graph, links, pointer)


def _unknown_tasks(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    labels = {task.label: task for task in graph.tasks}
    for count, (index, target) in enumerate(links.unknown):
        hint = _nearest(target, graph.tasks[index], labels) if count < MAX_SUGGESTED else ""
        message = f"{graph.tasks[index].label} names the task {target.group}/{target.task}, which does not exist"
        yield Problem(Code.UNKNOWN_DEPENDENCY, pointer(target.path), message, hint or _EXAMPLE)
    for task in graph.tasks:
        if task.flow is None or (loop := task.flow.in_loop) is None:
            continue
        found = labels.get(f"{task.group}/{loop.text}")
        if found is None or found.flow is None or not found.flow.repeats:
            message = (
                f"{task.label} is in the loop {loop.text!r}, and its group has no task of this name with a `loop`"
            )
            loops = [
                each.name for each in graph.tasks if each.group == task.group and each.flow and each.flow.repeats
            ]
            hint = suggestion(loop.text, loops) or "name a task of the same group that has `loop`"
            yield Problem(Code.UNKNOWN_DEPENDENCY, pointer(loop.path), message, hint)
        elif _is_in_itself(task, labels):
            message = f"{task.label} is in a loop that is in itself"
            yield Problem(Code.CYCLE, pointer(loop.path), message, "remove one `in_loop`")


_EXAMPLE = 'name a task of the same group, or "group/task"'


def _nearest(target: Target, task: TaskOutline, labels: Collection[str]) -> str:
    """A similar task of the same group by its name, else one of any group."""
    own = f"{task.group}/"
    if target.group == task.group:
        near = suggestion(target.task, [label.removeprefix(own) for label in labels if label.startswith(own)])
        return near or _homonym(target, labels)
    return _homonym(target, labels) or suggestion(f"{target.group}/{target.task}", labels)


def _homonym(target: Target, labels: Collection[str]) -> str:
    """A task of this name in another group."""
    elsewhere = next((label for label in labels if label.partition("/")[2] == target.task), None)
    return "" if elsewhere is None else f"did you mean {elsewhere!r}?"


def _is_in_itself(task: TaskOutline, labels: dict[str, TaskOutline]) -> bool:
    seen = {task.name}
    at: TaskOutline | None = task
    while at is not None and at.flow is not None and at.flow.in_loop is not None:
        name = at.flow.in_loop.text
        if name in seen:
            return True
        seen.add(name)
        at = labels.get(f"{task.group}/{name}")
    return False


def _out_of_reach(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    for index, link in links.unreachable:
        loop = graph.tasks[links.loops[link.task][-1]]
        message = f"{graph.tasks[index].label} names {'/'.join(link.label)}, which the loop {loop.label} repeats"
        is_own = index in links.loops[link.task]
        hint = (
            "a loop cannot wait for its own tasks: remove the name"
            if is_own
            else f"outside of the loop, name the loop itself: {loop.label!r}"
        )
        yield Problem(Code.UNKNOWN_DEPENDENCY, pointer(link.path), message, hint)


def _branches(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    for index, task in enumerate(graph.tasks):
        if task.flow is None or (branch := task.flow.branch) is None:
            continue
        switch = next((link for link in links.targets[index] if link.label == branch.switch[:2]), None)
        if switch is None:
            continue  # unknown, reported above
        chosen = graph.tasks[switch.task].flow
        if chosen is None or chosen.kind != "switch":
            message = f"{task.label} is a branch of {'/'.join(switch.label)}, which has no `switch`"
            yield Problem(Code.SCHEMA, pointer(branch.switch.path), message, "name a task with `switch`")
        elif branch.case > len(chosen.cases):
            message = (
                f"{task.label} is case {branch.case} of {'/'.join(switch.label)}, which has {len(chosen.cases)}"
            )
            yield Problem(Code.SCHEMA, pointer(branch.switch.path), message, "cases count from 0")


def _names_in_loops(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    """Keys and variables in a loop that have the name of something that the loop provides."""
    hint = f"a loop provides {', '.join(LOOP_NAMES)}: take another name"
    for index, task in enumerate(graph.tasks):
        if not links.loops[index]:
            continue
        for name in (*task.produces, *_variables(task)):
            if name.text in LOOP_NAMES:
                message = f"{task.label} is in a loop, where {name.text!r} is a name of the loop"
                yield Problem(Code.BAD_NAME, pointer(name.path), message, hint)


def _variables(task: TaskOutline) -> Iterator[Declared]:
    if task.expansion is not None:
        path: Path = (*task.path, "expansion_config")
        yield from (Declared(name, (*path, "array_mapping", name)) for name in task.expansion.array_mapping)
        yield from (Declared(name, (*path, "identifiers", name)) for name in task.expansion.identifiers)


def _error_keys(graph: Graph, policies: Collection[str], pointer: Pointer) -> Iterator[Problem]:
    for task in graph.tasks:
        key = task.flow.error_key if task.flow is not None else None
        if key is not None and key.text in policies:
            message = f"the error key {key.text!r} of {task.label} has a policy in context_policies"
            yield Problem(Code.SCHEMA, pointer(key.path), message, "an error is not merged: rename the key")


def _finally(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    """Tasks that wait for a task in `finally`, which waits for them."""
    for index, task in enumerate(graph.tasks):
        if links.is_final[index]:
            continue
        for target in graph.edges[index]:
            if links.is_final[target]:
                message = f"{task.label} waits for {graph.tasks[target].label}, which runs after all others"
                path = graph.origin(index, target) or task.path
                yield Problem(Code.CYCLE, pointer(path), message, "move it into `finally`, or drop the dependency")


def _compensations(graph: Graph, links: FlowLinks, pointer: Pointer) -> Iterator[Problem]:
    """Compensations that would never run, and a group with the name that the group of compensations has."""
    compensated = [each for each in graph.tasks if each.flow is not None and each.flow.compensation is not None]
    for task in compensated:
        if links.is_final[graph.tasks.index(task)]:
            message = f"{task.label} has `compensate`, and runs after all compensations"
            yield Problem(Code.SCHEMA, pointer((*task.path, "compensate")), message, "leave it out")
        elif task.flow is not None and task.flow.in_loop is not None:
            message = (
                f"{task.label} has `compensate` in a loop, whose earlier iterations leave nothing to undo them by"
            )
            hint = "undo within the iteration, by a task that depends on the error_key of another"
            yield Problem(Code.SCHEMA, pointer((*task.path, "compensate")), message, hint)
    taken = next((each for each in graph.tasks if each.group == COMPENSATE), None) if compensated else None
    if taken is not None:
        message = f"the group {COMPENSATE!r} is that of the compensations of this request"
        yield Problem(Code.DUPLICATE_NAME, pointer((*taken.path[:2], "name")), message, "give it another name")
