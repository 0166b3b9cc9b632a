"""Compiles the plan of a request to what the owner of a run needs of it, for each request of its shape. Pure.

A plan depends on the shape of its request (see `core.request.shape`) and on the keys that its session has, but on
no value of its context. The orders of its tasks are encoded once: the records that start a run take them as they
are, with the values of that run in their gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.lanes import Priority
from anabranch.core.names import outcome_name
from anabranch.core.request.budget_fields import Limit
from anabranch.core.request.flow_outline import FIELDS
from anabranch.core.request.limits import Concurrency
from anabranch.core.request.models import COMPENSATE, FINALLY, TaskGroup
from anabranch.core.request.planning import Plan, PlannedTask
from anabranch.core.request.shape import Stencil
from anabranch.core.wire.codec import header_of
from anabranch.core.wire.messages import Need, PhaseName, SharedKey, StartGroup, TaskOrder
from anabranch.core.wire.task_order import BranchOrder

MAX_CHUNKS = 4_096
"""The most chunks of a task at once. If members take long, a chunk is one member, so this bounds how many run at
once. The number is part of the record: a later release with another number still reads old records in the same
way."""
_OVERHEAD = 500
"""Bytes of a plan or a group beside its JSON, roughly."""


@dataclass(frozen=True, slots=True)
class CompiledGroup:
    """A group of a plan.

    Attributes:
        start: the header of its StartGroup; `run_id`, `tasks` and `admission` are those of each run.
        orders: its tasks, each a TaskOrder as JSON.
        tasks: all of them as one JSON array.
    """

    name: str
    start: Mapping[str, Any]
    orders: tuple[Stencil, ...]
    tasks: Stencil


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """What a run's owner needs of the plan of a request.

    Attributes:
        priority, pool, fairness_key: of the request; None: it names none.
        timeout: of the run, in seconds.
        tasks: their number.
        produced: the result keys of all tasks, which hide keys of the context.
        reserved_keys, shared, alternatives: see OpenRun.
    """

    project: str
    priority: Priority | None
    pool: str | None
    fairness_key: str | None
    timeout: float
    tasks: int
    groups: tuple[CompiledGroup, ...]
    produced: frozenset[str]
    reserved_keys: tuple[str, ...]
    shared: Mapping[str, SharedKey]
    alternatives: Mapping[str, int]
    phases: tuple[PhaseName, ...]
    """The groups of the run's end; see OpenRun. `groups` has that of `finally`, which is started like others."""
    group_names: tuple[str, ...]
    """The groups that end before the run does."""
    budget: Limit | None = None
    concurrency: Concurrency | None = None
    agents: frozenset[str] = frozenset()
    """All that tasks and compensations name."""

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly."""
        return _OVERHEAD + sum(_OVERHEAD + 2 * group.tasks.size for group in self.groups)


def compiled(planned: Plan, *, with_gaps: bool) -> CompiledPlan:
    """Compile a plan. With gaps, its request has the names of the gaps of its shape."""
    shared = shared_keys(planned)
    numbers = {
        key: {place: number for number, place in enumerate(found.producers)} for key, found in shared.items()
    }
    groups = planned.request.task_groups
    if planned.request.finally_:
        groups = (*groups, TaskGroup(name=FINALLY, tasks=planned.request.finally_))
    by_group: dict[str, list[bytes]] = {group.name: [] for group in groups}
    for task in planned.tasks:
        order = order_of(task, numbers).model_dump(mode="json", exclude_defaults=True)
        by_group[task.group].append(orjson.dumps(order))
    phases: tuple[PhaseName, ...] = (FINALLY,) if planned.request.finally_ else ()
    if [task for task in planned.tasks if task.spec.compensate is not None]:
        phases = (COMPENSATE, *phases)
    return CompiledPlan(
        project=planned.request.project,
        priority=planned.request.priority,
        pool=planned.request.pool,
        fairness_key=planned.request.fairness_key,
        timeout=planned.request.timeout,
        tasks=len(planned.tasks),
        groups=tuple(
            [
                _group(each, by_group[each.name], with_gaps, number >= len(planned.request.task_groups))
                for number, each in enumerate(groups)
            ]
        ),
        produced=planned.produced,
        reserved_keys=tuple(reserved_keys(planned)),
        shared=shared,
        alternatives=planned.alternatives,
        phases=phases,
        group_names=tuple(by_group) if COMPENSATE not in phases else (*by_group, COMPENSATE),
        budget=planned.request.budget.limit if planned.request.budget is not None else None,
        concurrency=planned.request.concurrency,
        agents=frozenset(_agents(planned)),
    )


def _agents(planned: Plan) -> Iterator[str]:
    for task in planned.tasks:
        yield task.spec.agent
        if task.spec.compensate is not None:
            yield task.spec.compensate.agent


def _group(group: TaskGroup, orders: list[bytes], with_gaps: bool, is_finally: bool) -> CompiledGroup:
    start = StartGroup(
        run_id="",
        admission=0,
        group=group.name,
        tasks=(),
        timeout=group.timeout,
        max_concurrency=group.max_concurrency,
        fail_fast=group.fail_fast,
        need=group.need or (1 if group.race else None),
        is_finally=is_finally,
        budget=group.budget and group.budget.limit,
        most_chunks=MAX_CHUNKS,
    )
    stencil = Stencil.of if with_gaps else Stencil.whole
    tasks = b"[" + b",".join(orders) + b"]"
    return CompiledGroup(group.name, header_of(start), tuple(map(stencil, orders)), stencil(tasks))


def shared_keys(plan: Plan) -> dict[str, SharedKey]:
    """The keys of the plan that have a context policy, with the tasks that produce them."""
    policies = plan.request.context_policies
    producers: dict[str, list[tuple[str, str]]] = {key: [] for key in policies}
    # The values of a loop body are those of the loop, which contributes them to the key once.
    for task in (each for each in plan.tasks if each.spec.in_loop is None) if policies else ():
        for key in task.spec.result_keys:
            if key in producers:
                producers[key].append((task.group, task.name))
    return {key: SharedKey(policy=policies[key], producers=tuple(found)) for key, found in producers.items()}


def reserved_keys(plan: Plan) -> Iterator[str]:
    """The result keys of the plan that a derived key of a `separate` task could overwrite.

    A derived key ends with an underscore and a result key, so every ending after an underscore is compared.
    """
    specs = [task.spec for task in plan.tasks]
    separated = {
        key
        for spec in specs
        if spec.expansion_config is not None and spec.expansion_config.output_format == "separate"
        for key in spec.result_keys
    }
    if separated:
        for key in (key for spec in specs for key in spec.result_keys):
            if any(ending in separated for ending in _endings(key)):
                yield key


def _endings(key: str) -> Iterator[str]:
    """The endings of a key after each underscore, except one at its beginning."""
    return (key[index + 1 :] for index, char in enumerate(key) if char == "_" and index > 0)


Numbers = Mapping[str, Mapping[tuple[str, str], int]]
"""Key with a policy -> (group, task) -> its number among the producers."""


def order_of(task: PlannedTask, numbers: Numbers) -> TaskOrder:
    """A planned task in the form that the session's owner receives."""
    spec, place = task.spec, (task.group, task.name)
    order = TaskOrder(
        name=task.name,
        agent=spec.agent,
        needs=tuple(
            Need(key=need.key, kind=need.kind, optional=need.optional, unless_failed=need.unless_failed)
            for need in task.needs
        ),
        context_keys=tuple(sorted(task.context_keys)),
        result_keys=spec.result_keys,
        shares={key: numbers[key][place] for key in spec.result_keys if place in numbers.get(key, ())},
        optional_result_keys=spec.optional_result_keys,
        message_template=spec.message_template,
        shared_instructions=spec.shared_instructions,
        inputs=spec.inputs,
        tools=spec.tools,
        expansion=spec.expansion_config,
        retry=None if isinstance(spec.retry, tuple) else spec.retry,
        retriers=spec.retry if isinstance(spec.retry, tuple) else (),
        max_deliveries=spec.max_deliveries,
        timeout=task.timeout,
        tolerated_failures=spec.tolerated_failures,
        on_failure=spec.on_failure,
        max_concurrency=spec.max_concurrency,
        concurrency=spec.concurrency,
        rate_limit=spec.rate_limit,
        announces=task.announces,
        loop_names=task.loop_names,
        budget=spec.budget and spec.budget.limit,
        estimate=spec.estimate and spec.estimate.limit,
        requires=spec.requires,
        priority=spec.priority,
        pool=spec.pool,
        fairness_key=spec.fairness_key,
        cache=spec.cache,
    )
    return order if FIELDS.isdisjoint(spec.model_fields_set) else _with_flow(order, task)


def _with_flow(order: TaskOrder, task: PlannedTask) -> TaskOrder:
    """The order with what controls the task."""
    spec, branch = task.spec, task.branch
    return order.model_copy(
        update={
            "kind": spec.kind,
            "when": spec.when,
            "branch": branch
            and BranchOrder(key=outcome_name(*branch.switch), case=branch.case, reason=branch.reason),
            "error_key": spec.error_key,
            "in_loop": spec.in_loop,
            "switch": spec.switch,
            "loop": spec.loop,
            "wait": spec.wait,
            "run": spec.run,
            "compensate": spec.compensate,
        }
    )
