"""The work of a run from its plan, from what was measured, and from what its workers have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from anabranch.core.durations import parse_duration
from anabranch.core.forecast.limits_of_plan import LimitTable
from anabranch.core.forecast.measured import Measured, Measurements
from anabranch.core.forecast.samples import Samples
from anabranch.core.forecast.work import (
    COMPLETED,
    FAILED,
    NOT_FAILED,
    NOTHING,
    ONE,
    Attempts,
    Budget,
    Capacity,
    Need,
    Producer,
    Work,
    WorkGroup,
    WorkTask,
)
from anabranch.core.lanes import DEFAULT_PRIORITY, number_of
from anabranch.core.request.budget_fields import Amounts
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.core.request.flow import Loop, Wait
from anabranch.core.request.foresight import Foresight, foresee
from anabranch.core.request.graph import Dependency
from anabranch.core.request.models import FINALLY, RetryPolicy, TaskSpec
from anabranch.core.request.planning import Plan, PlannedTask

MAX_ASSUMPTIONS = 20
"""Assumptions of one kind that are listed; further ones are counted."""


@dataclass(frozen=True, slots=True)
class AgentTraits:
    """What an agent declares for itself; `kind`: of its program, empty for a call in the worker."""

    retry: RetryPolicy | None = None
    timeout: float | None = None
    max_concurrency: int | None = None
    kind: str = ""


NO_TRAITS = AgentTraits()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a forecast knows beside the request.

    Attributes:
        agents: what agents declare, by name.
        starts_at: when the run starts, in seconds since the epoch.
    """

    measurements: Measurements
    capacity: Capacity = field(default_factory=Capacity)
    agents: Mapping[str, AgentTraits] = field(default_factory=dict)
    limits: ConfiguredLimits | None = None
    starts_at: float = 0.0


def work_of(plan: Plan, given: Circumstances) -> Work:
    """The work of a run."""
    return _Builder(plan, given).work()


class _Builder:
    def __init__(self, plan: Plan, given: Circumstances) -> None:
        self._plan = plan
        self._given = given
        self._indexes = {(task.group, task.name): index for index, task in enumerate(plan.tasks)}
        self._groups = [*(group.name for group in plan.request.task_groups), FINALLY]
        self._foresight = foresee(plan) if plan.flow is not None else Foresight([False] * len(plan.tasks))
        self._limits = LimitTable(plan.request, given.capacity, given.limits)
        self._unknown: dict[str, list[str]] = {}
        self._measured: list[Measured] = []
        self._counts: dict[int, Samples] = {}

    def work(self) -> Work:
        plan = self._plan
        self._measured = [self._look_up(task) for task in plan.tasks]
        nodes, ends = self._nodes()
        self._counts = self._member_counts()
        tasks = tuple(self._task(index, nodes[index]) for index in range(len(plan.tasks)))
        links = plan.flow.loops if plan.flow is not None else [()] * len(plan.tasks)
        return Work(
            tasks=tasks,
            groups=tuple(self._group(number) for number in range(len(self._groups))),
            pools=self._limits.pools,
            rates=self._limits.rates,
            ends=ends,
            end_sources={loop: tuple(nodes[end]) for loop, end in ends.items()},
            bodies={loop: tuple(index for index, around in enumerate(links) if loop in around) for loop in ends},
            budgets=tuple(self._budgets()),
            timeout=plan.request.timeout,
            latency=self._given.measurements.latency,
            assumptions=tuple(self._assumptions()),
        )

    def _nodes(self) -> tuple[Sequence[Sequence[int]], dict[int, int]]:
        """For each node the nodes that it waits for; and the ends of loops."""
        plan = self._plan
        if plan.flow is None:
            return plan.sources, {}
        ends = {loop: len(plan.tasks) + number for number, loop in enumerate(plan.flow.repeaters)}
        nodes = plan.flow.ordered(plan.sources)
        others = [index for index, is_final in enumerate(plan.flow.is_final) if not is_final]
        others += [end for loop, end in ends.items() if not plan.flow.is_final[loop]]
        for index, is_final in enumerate(plan.flow.is_final):
            if is_final:
                nodes[index] = sorted({*nodes[index], *others})
        return nodes, ends

    def _look_up(self, task: PlannedTask) -> Measured:
        found = self._given.measurements.of_task(task.group, task.name, task.spec.agent)
        return found or Measured()

    # --- one task ----------------------------------------------------------------------------------

    def _task(self, index: int, sources: Sequence[int]) -> WorkTask:
        task, measured = self._plan.tasks[index], self._measured[index]
        spec = task.spec
        traits = self._given.agents.get(spec.agent, NO_TRAITS)
        loops = self._plan.flow.loops[index] if self._plan.flow is not None else ()
        pools, rates = self._limits.of_task(task, traits.kind, traits.max_concurrency)
        self._note_unlimited(task)
        priority = spec.priority or self._plan.request.priority or DEFAULT_PRIORITY
        return WorkTask(
            index=index,
            group=self._groups.index(task.group),
            label=task.label,
            kind=spec.kind,
            sources=tuple(sources),
            needs=tuple(self._needs(task, index)),
            members=self._counts[index],
            attempts=self._attempts(task, measured, traits),
            retries=_policies(spec, traits),
            tolerance=spec.tolerated_failures,
            handles_failure=spec.error_key is not None,
            uses_slot=bool(spec.agent) and not traits.kind,
            pools=pools,
            rates=rates,
            loop=loops[0] if loops else None,
            skip_rate=self._skip_rate(index, task, measured),
            branch=None if task.branch is None else (self._indexes[task.branch.switch], task.branch.case),
            chances=self._chances(index, spec),
            iterations=ONE if spec.loop is None else self._iterations(task, spec.loop, measured),
            delay=spec.loop.delay if spec.loop is not None else 0.0,
            priority=number_of(priority),
            is_final=task.group == FINALLY,
        )

    def _needs(self, task: PlannedTask, index: int) -> Iterator[Need]:
        for need in task.needs:
            if need.optional or need.producer is None or need.kind not in ("produced", "task"):
                continue
            yield tuple(self._producers(need, index))

    def _producers(self, need: Dependency, index: int) -> Iterator[Producer]:
        assert need.producer is not None
        producer = self._indexes[need.producer]
        if need.kind == "task":
            yield Producer(producer, NOT_FAILED if need.unless_failed else COMPLETED)
            return
        links = self._plan.flow
        found = links.producers_of(need.key, index) if links is not None else ()
        for each in found or (producer,):
            is_error = self._plan.tasks[each].spec.error_key == need.key
            yield Producer(each, FAILED if is_error else COMPLETED)

    def _member_counts(self) -> dict[int, Samples]:
        """The number of members of each task. Tasks that give others their arrays come before these."""
        order = sorted(range(len(self._plan.tasks)), key=lambda index: self._plan.tasks[index].level)
        for index in order:
            self._counts[index] = self._members(index, self._plan.tasks[index], self._measured[index])
        return self._counts

    def _members(self, index: int, task: PlannedTask, measured: Measured) -> Samples:
        if task.members is not None:
            return Samples([task.members]) if task.spec.expansion_config is not None else ONE
        producer = self._expanded_producer(index, task)
        if producer is not None:
            before = self._measured[producer].members
            factor = 1.0
            if measured.members is not None and before is not None and before.mean > 0:
                factor = measured.members.mean / before.mean
            return Samples(count * factor for count in self._counts[producer].values)
        if measured.members is not None:
            return measured.members
        self._assume("the number of members is not known before the run, and counted as 1", task)
        return ONE

    def _expanded_producer(self, index: int, task: PlannedTask) -> int | None:
        """The task whose members give this one its array: as many, if each gives one item."""
        config = task.spec.expansion_config
        sources = list(config.array_mapping.values()) if config is not None else []
        if len(sources) != 1 or not isinstance(sources[0], str):
            return None
        for need in task.needs:
            if need.key == sources[0] and need.kind == "produced" and need.producer is not None:
                producer = self._indexes[need.producer]
                is_expanded = self._plan.tasks[producer].spec.expansion_config is not None
                return producer if is_expanded and producer in self._counts else None
        return None

    def _attempts(self, task: PlannedTask, measured: Measured, traits: AgentTraits) -> Attempts:
        spec = task.spec
        if spec.kind in ("switch", "loop"):
            return Attempts()
        seconds = measured.seconds or self._declared(task)
        failed = measured.failed_seconds or seconds
        estimate = spec.estimate
        usd = measured.usd or _certain(None if estimate is None else estimate.usd)
        tokens = measured.tokens or _certain(None if estimate is None else estimate.tokens)
        timeout = task.timeout if task.timeout is not None else traits.timeout
        number = measured.attempts if measured.seconds is not None else 0
        rate = measured.failure_rate
        if timeout is not None and spec.agent:
            rate = 1 - (1 - rate) * (1 - seconds.share_above(timeout))
            seconds, failed = seconds.at_most(timeout), failed.at_most(timeout)
        return Attempts(seconds, failed, rate, _errors(measured), usd, tokens, number)

    def _declared(self, task: PlannedTask) -> Samples:
        """How long a member takes of which nothing was measured."""
        spec = task.spec
        if spec.wait is not None and (known := self._waited(spec.wait)) is not None:
            return Samples([known])
        if spec.estimate is not None and spec.estimate.seconds is not None:
            self._assume("its `estimate` is used, because nothing was measured", task)
            return Samples([spec.estimate.seconds])
        self._assume("nothing was measured, and it is counted as taking no time", task)
        return NOTHING

    def _waited(self, wait: Wait) -> float | None:
        try:
            if wait.for_ is not None:
                return parse_duration(wait.for_)
            if wait.until is not None:
                at = wait.until if isinstance(wait.until, float) else _timestamp(str(wait.until))
                return max(0.0, at - self._given.starts_at)
        except ValueError:
            return None  # a placeholder
        return None

    def _skip_rate(self, index: int, task: PlannedTask, measured: Measured) -> float:
        will_skip = self._foresight.will_skip[index]
        if will_skip is True:
            return 1.0
        if task.spec.when is None or will_skip is False:
            return 0.0
        if measured.skip_rate is not None:
            return measured.skip_rate
        self._assume("its condition is not known before the run, and counted as true", task)
        return 0.0

    def _chances(self, index: int, spec: TaskSpec) -> tuple[float, ...]:
        if spec.switch is None:
            return ()
        count = len(spec.switch.cases) + spec.switch.has_default
        chosen = self._foresight.chosen.get(index)
        if chosen is not None:
            return tuple(float(number == chosen) for number in range(count))
        rates = {
            task.branch.case: rate
            for task, measured in zip(self._plan.tasks, self._measured, strict=True)
            if task.branch is not None
            and self._indexes[task.branch.switch] == index
            and (rate := measured.skip_rate) is not None
        }
        if rates:
            return _shares([1 - rates.get(number, 1.0) for number in range(count)])
        self._assume("its case is not known before the run, and each is counted as equally likely", spec)
        return (1 / count,) * count

    def _iterations(self, task: PlannedTask, loop: Loop, measured: Measured) -> Samples:
        if isinstance(loop.each, list):
            return Samples([min(len(loop.each), loop.limit)])
        known = self._plan.visible_context().get(loop.each) if loop.each is not None else None
        if isinstance(known, list):
            return Samples([min(len(known), loop.limit)])
        if measured.iterations is not None:
            return measured.iterations
        self._assume("its number of iterations is not known before the run, and counted as 1", task)
        return ONE

    # --- the rest ----------------------------------------------------------------------------------

    def _group(self, number: int) -> WorkGroup:
        name = self._groups[number]
        tasks = tuple(index for index, task in enumerate(self._plan.tasks) if task.group == name)
        if number == len(self._plan.request.task_groups):
            return WorkGroup(name, tasks)
        group = self._plan.request.task_groups[number]
        return WorkGroup(name, tasks, group.fail_fast, 1 if group.race else group.need, group.timeout)

    def _budgets(self) -> Iterator[Budget]:
        request, tasks = self._plan.request, range(len(self._plan.tasks))
        yield from _budget("run", request.budget, tasks)
        for group in request.task_groups:
            of_group = [index for index in tasks if self._plan.tasks[index].group == group.name]
            yield from _budget(group.name, group.budget, of_group)
        for index in tasks:
            task = self._plan.tasks[index]
            yield from _budget(task.label, task.spec.budget, [index])

    def _note_unlimited(self, task: PlannedTask) -> None:
        for reason in self._limits.unlimited(task):
            self._assume(reason, task)

    def _assume(self, what: str, task: PlannedTask | TaskSpec) -> None:
        label = task.label if isinstance(task, PlannedTask) else task.name
        self._unknown.setdefault(what, []).append(label)

    def _assumptions(self) -> Iterator[str]:
        for what, labels in self._unknown.items():
            more = len(labels) - MAX_ASSUMPTIONS
            shown = ", ".join(labels[:MAX_ASSUMPTIONS]) + (f" and {more:,} more" if more > 0 else "")
            yield f"{shown}: {what}"


def _budget(of: str, amounts: Amounts | None, tasks: Sequence[int]) -> Iterator[Budget]:
    if amounts is not None:
        yield Budget(of, amounts.limit, frozenset(tasks))


def _policies(spec: TaskSpec, traits: AgentTraits) -> tuple[RetryPolicy, ...]:
    retry = spec.retry if spec.retry is not None else traits.retry
    if retry is None:
        return ()
    return retry if isinstance(retry, tuple) else (retry,)


def _errors(measured: Measured) -> tuple[tuple[str, float], ...]:
    known = sum(measured.errors.values())
    rest = (("Exception", max(0.0, 1 - known)),) if known < 1 - 1e-9 else ()
    return (*measured.errors.items(), *rest)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total if total > 0 else 0.0 for weight in weights)


def _certain(amount: float | None) -> Samples:
    return Samples([amount]) if amount else NOTHING


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
