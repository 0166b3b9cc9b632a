"""The plan of a valid request: dependencies of each task, its level, its number of members. Pure.

Deterministic: the same request and the same earlier context give the same plan on every machine. ``admission``
validates the request and builds the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.expansion.members import Expanded, Member, member_name
from anabranch.core.json_documents import compact_size
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY
from anabranch.core.names import leading_keys
from anabranch.core.request.budget_forecast import budgets_of, over_budget
from anabranch.core.request.context_view import ContextView
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.flow import LOOP_NAMES
from anabranch.core.request.flow_document import flow_document
from anabranch.core.request.flow_links import ROOT, RUN_NAME, FlowLinks
from anabranch.core.request.foresight import Foresight, foresee
from anabranch.core.request.graph import Dependency, Graph, SessionKeys, build_graph
from anabranch.core.request.limits import rendered_key
from anabranch.core.request.member_counts import AT_RUN_TIME, ORDINARY, MemberForecast, forecast_members
from anabranch.core.request.models import FINALLY, Request, TaskSpec
from anabranch.core.request.outline import GroupOutline, TaskOutline, outline_of, read_outline
from anabranch.core.request.task_spelling import MADE_UP
from anabranch.core.request.templates_of_task import templates_of
from anabranch.core.request.validation import cycles, unknown_keys
from anabranch.core.templates import RenderBudget, RenderedTooLarge, Scope, member_scope, placeholders, render
from anabranch.core.timestamps import utc_text

_ORDER = frozenset({"priority", "pool", "fairness_key"})
FINALLY_TIMEOUT = 300.0
"""Seconds that a task in ``finally`` may take, unless it says another number: nothing else stops it."""


class PlannedBranch(NamedTuple):
    """The case of a switch that a task belongs to; the switch as (group, task)."""

    switch: tuple[str, str]
    case: int
    reason: Literal["branch", "condition"]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task of the plan.

    ``level`` counts from 0. ``members`` is 1 for an ordinary task, 0 for a switch or a loop, and None if not known
    before the run.
    ``context_keys`` are the keys of the request's context that the templates mention without declaring them:
    they are replaced as well.
    """

    group: str
    name: str
    spec: TaskSpec
    needs: tuple[Dependency, ...]
    level: int
    members: int | None
    context_keys: frozenset[str] = frozenset()
    expanded: Expanded | None = None
    announces: bool = False
    """Other tasks wait for its end, whatever it produces."""
    loop_names: tuple[str, ...] = ()
    """The names of its loops, and of the run in `finally`, that its templates and conditions mention."""
    branch: PlannedBranch | None = None
    is_final: bool = False

    @property
    def timeout(self) -> float | None:
        """Seconds that it may take."""
        return FINALLY_TIMEOUT if self.is_final and self.spec.timeout is None else self.spec.timeout

    @property
    def label(self) -> str:
        """``group/task``, as in ``levels``."""
        return f"{self.group}/{self.name}"

    def to_document(self) -> dict[str, Any]:
        """The task as ``plan --json`` shows it."""
        return {
            "group": self.group,
            "name": self.name,
            "agent": self.spec.agent or None,
            "dependencies": [need.key for need in self.needs if need.kind != "task"],
            "result_keys": list(self.spec.result_keys),
            "members": self.members,
            **self._limits(),
            **({} if self.spec.estimate is None else {"estimate": self.spec.estimate.to_document()}),
            **({} if self.spec.cache is None else {"cache": self.spec.cache.to_document()}),
            **({} if self.spec.requires is None else {"requires": self.spec.requires.to_document()}),
        }

    def _limits(self) -> dict[str, Any]:
        """The limits that it shares with tasks of other runs, if it has any."""
        found = {"concurrency": self.spec.concurrency, "rate_limit": self.spec.rate_limit}
        return {name: limit.to_document() for name, limit in found.items() if limit is not None}


def _times_of(request: Request) -> dict[str, str]:
    """When the run starts and ends at the latest, where the request says it."""
    times = {"not_before": request.not_before, "deadline": request.deadline}
    return {name: utc_text(at) for name, at in times.items() if at is not None}


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks that would run, in declared order; ``levels`` has their labels by level."""

    request: Request
    tasks: tuple[PlannedTask, ...]
    levels: tuple[tuple[str, ...], ...]
    executions: int
    """Members of all tasks; a task with an unknown number counts as 1."""
    edges: int
    """Number of dependencies of one task on another."""
    warnings: tuple[str, ...] = ()
    alternatives: Mapping[str, int] = field(default_factory=dict)
    """Keys that at most one of several tasks produces, with the number of these tasks."""
    flow: FlowLinks | None = None
    sources: tuple[tuple[int, ...], ...] = ()
    """For each task, the indexes of the tasks that it waits for."""

    def to_document(
        self,
        *,
        document_bytes: int,
        expand: bool = False,
        limit: int | None = None,
        budget: RenderBudget | None = None,
    ) -> dict[str, Any]:
        """The document of ``plan --json``. With ``expand`` each task lists its first ``limit`` members, rendered
        within ``budget``."""
        context = self.visible_context() if expand else {}
        foresight = foresee(self) if self.flow is not None else None
        budgets = budgets_of(self)
        return {
            "valid": True,
            "errors": [],
            "warnings": [
                *self.warnings,
                *(_failing(self, foresight) if foresight is not None else ()),
                *over_budget(budgets),
            ],
            "counts": {
                "task_groups": len(self.request.task_groups),
                "tasks": len(self.tasks),
                "executions": self.executions,
            },
            "bytes": document_bytes,
            **_times_of(self.request),
            "levels": [list(level) for level in self.levels],
            **({"concurrency": places.to_document()} if (places := self.request.concurrency) else {}),
            "tasks": [
                task.to_document()
                | self._order_of(task)
                | ({} if foresight is None else flow_document(self, index, foresight))
                | ({"expanded": list(self._members(task, context, limit, budget))} if expand else {})
                for index, task in enumerate(self.tasks)
            ],
            **({"budgets": budgets} if budgets else {}),
        }

    def _order_of(self, task: PlannedTask) -> dict[str, Any]:
        """In which order and where its members run, if the request says anything of that."""
        request, spec = self.request, task.spec
        if not self._has_order:
            return {}
        named = request.fairness_key and rendered_key(request.fairness_key, request.context)
        return {
            "priority": spec.priority or request.priority or DEFAULT_PRIORITY,
            "pool": spec.pool or request.pool or DEFAULT_POOL,
            "fairness_key": spec.fairness_key or named or request.project,
        }

    @property
    def _has_order(self) -> bool:
        """True if the request or a task names a priority, a pool or a fairness key."""
        documents = (self.request, *(task.spec for task in self.tasks))
        return any(not _ORDER.isdisjoint(each.model_fields_set) for each in documents)

    @property
    def produced(self) -> frozenset[str]:
        """The keys of the run that its tasks set, which hide those of the context."""
        tasks = [task.spec for task in self.tasks if task.spec.in_loop is None]
        errors = [spec.error_key for spec in tasks if spec.error_key is not None]
        return frozenset([key for spec in tasks for key in spec.result_keys] + errors)

    def visible_context(self) -> dict[str, Any]:
        """The request's context without the keys that tasks of the request produce."""
        produced = self.produced
        return {key: value for key, value in self.request.context.items() if key not in produced}

    def _members(
        self, task: PlannedTask, context: Mapping[str, Any], limit: int | None, budget: RenderBudget | None
    ) -> Iterator[dict[str, Any]]:
        try:
            for member in self._all_members(task, context, limit, budget):
                if budget is not None:
                    budget.take_bytes(compact_size(member) or 0)
                yield member
        except RenderedTooLarge:
            if budget is None:
                raise

    def _all_members(
        self, task: PlannedTask, context: Mapping[str, Any], limit: int | None, budget: RenderBudget | None
    ) -> Iterator[dict[str, Any]]:
        if task.spec.expansion_config is None:
            system = self._system_names(task.name, None)
            yield _shown(task.spec, task.name, None, {}, member_scope({}, context, system), budget)
            return
        for member in task.expanded.members(0, limit) if task.expanded else ():
            yield self._member(task, member, context, budget)

    def _member(
        self, task: PlannedTask, member: Member, context: Mapping[str, Any], budget: RenderBudget | None
    ) -> dict[str, Any]:
        name = member_name(task.name, member.index)
        scope = member_scope(member.scope, context, self._system_names(task.name, member.index))
        shown = _shown(task.spec, name, member.index, member.variables, scope, budget)
        return shown if member.error is None else shown | {"error": member.error}

    def _system_names(self, task_name: str, index: int | None) -> dict[str, Any]:
        """The system names that are known before the run; ``{run_id}`` is not, and stays as written."""
        names: dict[str, Any] = {"task_name": task_name, "index": index}
        if self.request.session_id is not None:
            names["session_id"] = self.request.session_id
        return names


def _failing(plan: Plan, foresight: Foresight) -> Iterator[str]:
    """Warnings about conditions that cannot be evaluated with the values of the context."""
    for index, error in foresight.errors.items():
        yield f"{plan.tasks[index].label} will fail: {error}"


def _shown(
    spec: TaskSpec,
    name: str,
    index: int | None,
    variables: Mapping[str, Any],
    scope: Scope,
    budget: RenderBudget | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "index": index,
        "variables": dict(variables),
        "message": None if spec.message_template is None else render(spec.message_template, scope, budget=budget),
        "inputs": None if spec.inputs is None else render(spec.inputs, scope, typed=True, budget=budget),
    }


def refused_document(
    errors: Sequence[Problem], warnings: Sequence[str], *, task_groups: int, tasks: int, document_bytes: int
) -> dict[str, Any]:
    """The document of ``plan --json`` for a request that would be refused."""
    return {
        "valid": False,
        "errors": [error.to_document() for error in errors],
        "warnings": list(warnings),
        "counts": {"task_groups": task_groups, "tasks": tasks, "executions": 0},
        "bytes": document_bytes,
        "levels": [],
        "tasks": [],
    }


def plan(request: Request, session_keys: SessionKeys = ()) -> Plan:
    """The plan of ``request``; ``session_keys`` are the keys that the session has from earlier runs.

    Raises:
        RequestRefused: it has a cycle or a dependency that nothing provides. The paths point into
            ``request.to_document()``. Everything else that refuses a request is found by ``read_request``.
    """
    graph = _graph(outline_of(request), request, session_keys)
    if graph.levels is None or graph.unknown:
        # Again from the document: the outlines of a valid request lack the paths that the errors need.
        graph = _graph(read_outline(request.to_document()), request, session_keys)
        raise RequestRefused([*unknown_keys(graph, json_pointer), *cycles(graph, json_pointer)])
    visible = ContextView(request.context, graph.producers)
    return assemble(request, graph, forecast_all(graph, visible))


def _graph(groups: Sequence[GroupOutline], request: Request, session_keys: SessionKeys) -> Graph:
    tasks = [task for group in groups for _, task in group.tasks]
    return build_graph(tasks, request.context, session_keys, request.context_policies)


def forecast_all(graph: Graph, visible: ContextView) -> list[MemberForecast]:
    """Forecast the members of each task of the graph."""
    return [_forecast(task, keys, visible) for task, keys in zip(graph.tasks, graph.array_keys, strict=True)]


def _forecast(task: TaskOutline, array_keys: Mapping[str, str], visible: Mapping[str, Any]) -> MemberForecast:
    if not task.expanded:
        return ORDINARY
    if task.expansion is None:
        return AT_RUN_TIME
    return forecast_members(task.expansion, array_keys, visible)


def assemble(request: Request, graph: Graph, members: Sequence[MemberForecast]) -> Plan:
    """The plan of a request from its graph, which has no cycles or unknown keys, and its forecasts."""
    levels = graph.levels
    assert levels is not None
    specs = [(group.name, task) for group in request.task_groups for task in group.tasks]
    specs += [(FINALLY, task) for task in request.finally_]
    announcing = {link.task for found in graph.flow.targets for link in found} if graph.flow is not None else ()
    undeclared = _Mentions(graph, request.context)
    tasks = tuple(
        PlannedTask(
            group=group,
            name=spec.name,
            spec=spec,
            needs=graph.needs[index] if group != FINALLY else _optional_results(graph.needs[index]),
            level=levels[index],
            members=0 if graph.flow is not None and spec.kind in MADE_UP else members[index].count,
            context_keys=undeclared.of(index, spec),
            expanded=members[index].expanded,
            announces=index in announcing,
            loop_names=undeclared.loop_names(index, spec) if graph.flow is not None else (),
            branch=None if graph.flow is None else _branch(graph, graph.flow, index, specs),
            is_final=graph.flow is not None and graph.flow.is_final[index],
        )
        for index, (group, spec) in enumerate(specs)
    )
    executions = sum(1 if task.members is None else task.members for task in tasks)
    edges = sum(len(targets) for targets in graph.edges)
    alternatives = graph.flow.alternatives.get(ROOT, {}) if graph.flow is not None else {}
    several = {key: len(found) for key, found in alternatives.items()}
    warnings = tuple(undeclared.warnings)
    levels_of_labels = _by_level(tasks)
    return Plan(request, tasks, levels_of_labels, executions, edges, warnings, several, graph.flow, graph.edges)


def _optional_results(needs: Iterable[Dependency]) -> tuple[Dependency, ...]:
    """The needs of a task in `finally`. It runs whatever happened: it requires no result of other groups."""
    return tuple(
        need if need.kind == "task" or (need.producer or ("",))[0] == FINALLY else need._replace(optional=True)
        for need in needs
    )


def _branch(
    graph: Graph, links: FlowLinks, index: int, specs: Sequence[tuple[str, TaskSpec]]
) -> PlannedBranch | None:
    flow = graph.tasks[index].flow
    if flow is None or flow.branch is None:
        return None
    switch = next(link for link in links.targets[index] if link.label == flow.branch.switch[:2])
    chosen = specs[switch.task][1].switch
    return PlannedBranch(switch.label, flow.branch.case, "branch" if chosen is None else chosen.reason)


def _by_level(tasks: Sequence[PlannedTask]) -> tuple[tuple[str, ...], ...]:
    levels: list[list[str]] = [[] for _ in range(max((task.level for task in tasks), default=-1) + 1)]
    for task in tasks:
        levels[task.level].append(task.label)
    return tuple(tuple(level) for level in levels)


class _Mentions:
    """Finds keys that templates mention without declaring them: keys of the context, or by mistake of another
    task."""

    def __init__(self, graph: Graph, context: Collection[str]) -> None:
        self.warnings: list[str] = []
        self._graph = graph
        self._context = context

    def of(self, index: int, spec: TaskSpec) -> frozenset[str]:
        """The context keys that the task's templates mention undeclared."""
        mentioned = _mentioned(spec)
        if not mentioned:
            return frozenset()
        declared = {need.key for need in self._graph.needs[index]} | own_names(spec)
        if self._graph.flow is not None:
            mentioned = frozenset(text for text in mentioned if not self._graph.flow.is_own(index, text))
        # Sorted: the order of a set differs between processes, and that of the warnings must not.
        keys = [self._key(index, text, declared) for text in sorted(mentioned)]
        found = dict.fromkeys(key for key in keys if key is not None)
        produced = {key: at for key in found if (at := self._graph.producer_of(key, index)) is not None}
        for key, producer in produced.items():
            self._warn(index, key, producer)
        return frozenset(key for key in found if key not in produced)

    def loop_names(self, index: int, spec: TaskSpec) -> tuple[str, ...]:
        """The names of loops, and of the run, that the task's templates, conditions and arrays mention."""
        task, links = self._graph.tasks[index], self._graph.flow
        assert links is not None
        fields = task.flow.fields if task.flow is not None else ()
        texts = {*_mentioned(spec), *(each.text for each in (*fields, *task.array_paths))}
        firsts = {text.partition(".")[0] for text in texts if links.is_own(index, text)}
        return tuple(name for name in (*LOOP_NAMES, RUN_NAME) if name in firsts)

    def _key(self, index: int, text: str, declared: set[str]) -> str | None:
        """The longest key that a placeholder may name; None if it is declared, or not a key."""
        for key in leading_keys(text):
            if key in declared:
                return None
            if key in self._context or self._graph.producer_of(key, index) is not None:
                return key
        return None

    def _warn(self, index: int, key: str, at: int) -> None:
        task, producer = self._graph.tasks[index], self._graph.tasks[at]
        if producer is not task:
            self.warnings.append(
                f"{task.label} mentions {{{key}}}, which {producer.label} produces, but does not depend on it: "
                f'the placeholder will not be replaced; add "{key}" to the dependencies'
            )


_TEMPLATED = frozenset({"wait", "run", "compensate", "loop", "concurrency", "rate_limit"})
"""Fields of a task with templates in them."""


def _mentioned(spec: TaskSpec) -> frozenset[str]:
    found = placeholders(spec.inputs)
    plain = (spec.message_template, spec.shared_instructions)
    for template in plain if _TEMPLATED.isdisjoint(spec.__pydantic_fields_set__) else templates_of(spec):
        if template is not None:
            found |= placeholders(template)
    return found


def own_names(spec: TaskSpec) -> set[str]:
    """The names that the task's expansion defines: loop variables and identifiers, which hide keys of the
    context."""
    config = spec.expansion_config
    if config is None:
        return set()
    included = {name for entry in config.include for name in entry}
    sequences = config.transform_rules.sequence if config.transform_rules else None
    return {*config.array_mapping, *config.identifiers, *included, *(sequences or ())}
