"""Checks of a request as a whole: names, keys, dependencies, cycles, agents, expansions. Pure.

Each check yields every problem that it finds in the readable part of the request. ``pointer`` converts a path in
the request to a JSON Pointer into the document as it was sent. Types and ranges of single fields are checked by
``models``.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

from anabranch.core.errors import Code, Problem
from anabranch.core.expansion.members import check_config
from anabranch.core.names import capability_of
from anabranch.core.policies import number_problem
from anabranch.core.request.context_view import ContextView
from anabranch.core.request.envelope import Path
from anabranch.core.request.flow_links import ROOT
from anabranch.core.request.graph import Graph
from anabranch.core.request.member_counts import MemberForecast
from anabranch.core.request.models import Request
from anabranch.core.request.ordering import find_cycles
from anabranch.core.request.outline import Declared, GroupOutline, TaskOutline
from anabranch.core.timestamps import utc_text

Pointer = Callable[[Path], str]

SHOWN_IN_CYCLE = 50
"""Maximum tasks of a cycle that are shown; the middle of a longer one is left out."""
LONGEST_SHOWN = 300
LONGEST_SUGGESTED = 64
MAX_COMPARED = 500
"""Maximum length of a name for which a similar one is suggested: the search is quadratic in its length."""
MAX_SUGGESTED = 50
"""Maximum number of errors of a kind that have a suggestion."""


def times(request: Request | None, pointer: Pointer) -> Iterator[Problem]:
    """The deadline of a valid request has to be after its start."""
    if request is not None and is_past_deadline(request.not_before, request.deadline):
        message = f"`deadline` ({utc_text(request.deadline or 0)}) is not after `not_before`"
        yield Problem(Code.SCHEMA, pointer(("deadline",)), message, "give a later deadline")


def is_past_deadline(not_before: float | None, deadline: float | None) -> bool:
    """True if a run would time out before it starts."""
    return deadline is not None and not_before is not None and deadline <= not_before


def duplicate_names(groups: Sequence[GroupOutline], pointer: Pointer) -> Iterator[Problem]:
    """Groups of the request, and tasks of one group, that share a name."""
    named = [group.name for group in groups if group.name]
    yield from _repeated(named, "task group", "the request", pointer)
    for group in groups:
        where = f"the group {group.name.text!r}" if group.name else "its group"
        yield from _repeated([name for name, _ in group.tasks if name], "task", where, pointer)


def _repeated(names: Iterable[Declared], kind: str, where: str, pointer: Pointer) -> Iterator[Problem]:
    first: dict[str, Declared] = {}
    for name in names:
        other = first.setdefault(name.text, name)
        if other is not name:
            message = f"{where} already has a {kind} {name.text!r}, at {pointer(other.path)}"
            yield Problem(Code.DUPLICATE_NAME, pointer(name.path), message, "give it another name")


_PRODUCERS = "a key has one producer: rename one of them, or give the key a policy in context_policies"


def duplicate_result_keys(graph: Graph, pointer: Pointer) -> Iterator[Problem]:
    """Result keys that are declared more than once, by one task or by two."""
    seen: dict[tuple[int, str], tuple[TaskOutline, Declared]] = {}
    for index, task in enumerate(graph.tasks):
        scope = ROOT if graph.flow is None else graph.scope_of(index)
        for key in task.produces:
            other, first = seen.setdefault((scope, key.text), (task, key))
            # With a policy, several tasks may produce a key, but each of them only once.
            if first is not key and (other is task or not graph.may_repeat(scope, key.text)):
                by = "this task" if other is task else other.label
                message = f"the result key {key.text!r} is already declared by {by}"
                hint = _PRODUCERS
                if graph.flow is not None:
                    hint += "; without one, the conditions of its producers must exclude each other"
                yield Problem(Code.DUPLICATE_RESULT_KEY, pointer(key.path), message, hint)


def context_policies(
    graph: Graph, policies: Mapping[str, Any], context: ContextView, pointer: Pointer
) -> Iterator[Problem]:
    """Policies of keys that nothing writes, and values of the context that contradict their policy."""
    for count, (key, policy) in enumerate(policies.items()):
        if key not in graph.producers and key not in context:
            message = f"no task produces {_brief(key)!r}, and the context does not have it"
            likely = suggestion(key, graph.producers) if count < MAX_SUGGESTED else ""
            hint = likely or "name a result key of the request, or a key of its context"
            yield Problem(Code.UNKNOWN_CONTEXT_KEY, pointer(("context_policies", key)), message, hint)
        elif key not in graph.producers and (problem := number_problem(str(policy), context[key])) is not None:
            yield Problem(Code.SCHEMA, pointer(("context", key)), problem, "change the value, or the policy")


def unknown_keys(graph: Graph, pointer: Pointer) -> Iterator[Problem]:
    """Required keys that nothing provides, once for each place that names one."""
    seen: set[tuple[str, Path]] = set()
    named: dict[str, TaskOutline] = {}
    for producing in graph.tasks:
        if producing.produces:
            named.setdefault(producing.name, producing)
    for index, wanted in graph.unknown:
        if (wanted.key, wanted.path) in seen:
            continue
        seen.add((wanted.key, wanted.path))
        task = graph.tasks[index]
        message = f"no task produces {_brief(wanted.key)!r}, which {task.label} waits for, and no context has it"
        hint = _hint_for_key(graph, wanted.key, named.get(wanted.key), len(seen) <= MAX_SUGGESTED)
        yield Problem(Code.UNKNOWN_DEPENDENCY, pointer(wanted.path), message, hint)


def _hint_for_key(graph: Graph, key: str, named: TaskOutline | None, suggest: bool) -> str:
    if named is not None:
        return f"{key!r} is a task's name; depend on its result key {named.produces[0].text!r} instead"
    otherwise = (
        f'declare it in external_dependencies, put it into the context, or make it optional: "{_brief(key)}?"'
    )
    return (suggest and suggestion(key, graph.producers)) or otherwise


def _brief(text: str) -> str:
    """Shorten a text for a message: the path of an array may be as long as the request."""
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def suggestion(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or an empty text if no known name is similar."""
    if len(name) > LONGEST_SUGGESTED:
        return ""
    short = (each for each in known if len(each) <= LONGEST_SUGGESTED)
    close = difflib.get_close_matches(name, list(islice(short, MAX_COMPARED)), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def _of_tasks(graph: Graph, nodes: Sequence[int]) -> list[int]:
    """A cycle of nodes as one of tasks: a loop is one task, but two nodes."""
    if graph.flow is None:
        return list(nodes)
    found = [graph.flow.task_of(node) for node in nodes]
    return [task for at, task in enumerate(found) if not at or task != found[at - 1] or nodes[at] == nodes[at - 1]]


def cycles(graph: Graph, pointer: Pointer) -> Iterator[Problem]:
    """One problem for each set of tasks that wait for each other, with a shortest cycle in it."""
    if graph.levels is not None:
        return
    ambiguous = {name for name, count in Counter(task.name for task in graph.tasks).items() if count > 1}
    for found in find_cycles(graph.order or graph.edges):
        cycle = _of_tasks(graph, found)
        labels = [_label(graph.tasks[index], ambiguous) for index in cycle]
        origins = (graph.origin(index, target) for index, target in pairwise(cycle))
        path = next((origin for origin in origins if origin is not None), graph.tasks[cycle[0]].path)
        message = f"these tasks wait for each other: {' -> '.join(_shortened(labels))}"
        hint = "each arrow is a dependency; remove one of them"
        yield Problem(Code.CYCLE, pointer(path), message, hint)


def _label(task: TaskOutline, ambiguous: Collection[str]) -> str:
    return task.label if task.name in ambiguous else task.name


def _shortened(labels: list[str]) -> list[str]:
    if len(labels) <= SHOWN_IN_CYCLE:
        return labels
    half = SHOWN_IN_CYCLE // 2
    return [*labels[:half], f"({len(labels) - 2 * half} more)", *labels[-half:]]


def subsets(graph: Graph, pointer: Pointer) -> Iterator[Problem]:
    """Optional keys that are missing from the full list of keys."""
    for index, task in enumerate(graph.tasks):
        if task.optional_wants:
            wanted = {want.key for want in task.wants} | set(graph.array_keys[index].values())
            yield from _outside(task.optional_wants, wanted, "dependencies", pointer)
        if task.optional_results:
            produced = {key.text for key in task.produces}
            yield from _outside(task.optional_results, produced, "result_keys", pointer)


def _outside(keys: Iterable[Declared], allowed: Collection[str], name: str, pointer: Pointer) -> Iterator[Problem]:
    missing = (key for key in keys if key.text not in allowed)
    for count, key in enumerate(missing):
        message = f"{key.text!r} is not in {name}"
        hint = (count < MAX_SUGGESTED and suggestion(key.text, allowed)) or f"add it to {name} too"
        yield Problem(Code.NOT_A_SUBSET, pointer(key.path), message, hint)


def unknown_agents(
    tasks: Iterable[TaskOutline], agents: Collection[str] | None, pointer: Pointer
) -> Iterator[Problem]:
    """Agents that the registry lacks; none if the registry is not known (None)."""
    if agents is None:
        return
    known = ", ".join(sorted(each for each in agents if capability_of(each) is None)[:20]) or "none"
    named = [task.agent for task in tasks if task.agent]
    named += [task.flow.compensation for task in tasks if task.flow is not None and task.flow.compensation]
    missing = (agent for agent in named if agent.text not in agents)
    for count, agent in enumerate(missing):
        if (capability := capability_of(agent.text)) is not None:
            yield _unknown_capability(capability, agents, pointer(agent.path))
            continue
        message = f"there is no agent {agent.text!r}"
        likely = suggestion(agent.text, agents) if count < MAX_SUGGESTED else ""
        yield Problem(Code.UNKNOWN_AGENT, pointer(agent.path), message, likely or f"the agents are: {known}")


def _unknown_capability(capability: str, agents: Collection[str], path: str) -> Problem:
    known = sorted(found for each in agents if (found := capability_of(each)) is not None)
    hint = suggestion(capability, known) or f"the capabilities are: {', '.join(known[:20]) or 'none'}"
    return Problem(Code.UNKNOWN_AGENT, path, f"no agent has the capability {capability!r}", hint)


def expansions(tasks: Iterable[TaskOutline], pointer: Pointer) -> Iterator[Problem]:
    """Expansions without an array, and those that are invalid for any content of their arrays."""
    for task in tasks:
        path = (*task.path, "expansion_config")
        if task.expanded and not task.names_array:
            message = f"the expansion of {task.label} names no array"
            hint = 'name one in array_mapping: {"item": "a key of the context or a dependency"}'
            yield Problem(Code.EXPANSION_WITHOUT_ARRAY, pointer(path), message, hint)
        for place, message in check_config(task.expansion) if task.expansion else ():
            yield Problem(Code.SCHEMA, pointer((*path, *place)), message)


def tolerances(tasks: Iterable[TaskOutline], pointer: Pointer) -> Iterator[Problem]:
    """Refuses `tolerated_failures` of tasks without an expansion: such a task has no other members' results."""
    for task in tasks:
        if task.tolerates_itself:
            message = f"{task.label} has no expansion, so there are no members that may fail"
            hint = (
                "leave tolerated_failures out; to go on without this task's results, make them optional where "
                'they are needed: "key?"'
            )
            yield Problem(Code.SCHEMA, pointer((*task.path, "tolerated_failures")), message, hint)


def too_many_members(
    tasks: Sequence[TaskOutline], members: Sequence[MemberForecast], limit: int, pointer: Pointer
) -> Iterator[Problem]:
    """Expansions over the limit, single and in total, as far as they can be counted before the run."""
    hint = f"the limit is {limit:,} members of one request; split it"
    total = 0
    for task, forecast in zip(tasks, members, strict=True):
        count = forecast.count or 0
        if task.expanded and count > limit:
            message = f"{task.label} has {count:,} members"
            yield Problem(Code.TOO_MANY_MEMBERS, pointer((*task.path, "expansion_config")), message, hint)
        total += count if count <= limit else 0  # a task over the limit has a problem of its own
    if total > limit:
        message = f"the tasks have {total:,} members together"
        yield Problem(Code.TOO_MANY_MEMBERS, pointer(("task_groups",)), message, hint)


def warnings_of(graph: Graph, members: Sequence[MemberForecast], context: Collection[str]) -> Iterator[str]:
    """Warnings: valid parts of a request that are probably mistakes."""
    for key in graph.shared:
        if key in context:
            yield f"the context's value of {key!r} is ignored, because tasks of the request produce that key"
    for task, forecast in zip(graph.tasks, members, strict=True):
        if forecast.error:
            yield f"the expansion of {task.label} will fail: {forecast.error}"
        for key in sorted(task.external):
            if (producer := graph.producers.get(key)) is not None:
                by = graph.tasks[producer].label
                yield f"{task.label} declares {key!r} external, but {by} produces it: the result of {by} is used"
        yield from _without_effect(task)


def _without_effect(task: TaskOutline) -> Iterator[str]:
    if task.retries_never:
        yield (
            f"{task.label}: the retry strategy is none, so max_attempts only bounds the retries that the agent "
            "asks for with RetryLater; name a strategy to have failures retried"
        )
    config = task.expansion
    if config is None:
        return
    if config.type != "matrix" and (config.include or config.exclude):
        yield f"{task.label}: include and exclude have no effect, because the expansion is not a matrix"
    if config.type != "custom" and config.transform_rules is not None:
        yield f"{task.label}: transform_rules have no effect, because the expansion is not custom"
