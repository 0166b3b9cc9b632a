"""From an admitted request to the records that start its groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from anabranch.core.request.models import TaskGroup
from anabranch.core.request.planning import Plan, PlannedTask
from anabranch.core.wire.messages import Need, OpenRun, SharedKey, StartGroup, SubmitRun, TaskOrder
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import RunLimits

MAX_CHUNKS = 4_096
"""Of a task whose members take long each chunk is one member: so many may run at once. It stands in the record, so
that another number later does not change how records of before are read."""
PART_BYTES = 600_000
"""Tasks of a group that one record takes along."""


def open_run(submit: SubmitRun, plan: Plan, run: Run, limits: RunLimits | None) -> OpenRun:
    """The first record of a run for its session's owner."""
    shared = shared_keys(plan)
    return OpenRun(
        run_id=submit.run_id,
        request_id=submit.request_id,
        session_id=submit.session_id,
        groups=tuple(group.name for group in plan.request.task_groups),
        context=plan.visible_context(),
        deadline=run.deadline,
        traceparent=submit.traceparent,
        retry_of=submit.retry_of,
        reserved_keys=tuple(reserved_keys(plan)),
        shared=shared,
        submitted_at=run.tombstone.accepted_at if shared else None,
        admission=run.admission,
        inline_limit=limits.inline_bytes if limits is not None else None,
        member_limit=limits.members if limits is not None else None,
    )


def shared_keys(plan: Plan) -> dict[str, SharedKey]:
    """The keys of the plan that have a policy, and who produces them."""
    policies = plan.request.context_policies
    producers: dict[str, list[tuple[str, str]]] = {key: [] for key in policies}
    for task in plan.tasks if policies else ():
        for key in task.spec.result_keys:
            if key in producers:
                producers[key].append((task.group, task.name))
    return {key: SharedKey(policy=policies[key], producers=tuple(found)) for key, found in producers.items()}


def reserved_keys(plan: Plan) -> Iterator[str]:
    """The result keys of the plan that a derived key of one of its `separate` tasks might overwrite.

    A result key ends a derived one after an underscore, so each key is looked at from underscore to underscore.
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
    """What stands behind each underscore but the first character."""
    return (key[index + 1 :] for index, char in enumerate(key) if char == "_" and index > 0)


Numbers = Mapping[str, Mapping[tuple[str, str], int]]
"""Key with a policy -> (group, task) -> its number among the producers."""


def start_groups(run: Run, plan: Plan) -> Iterator[StartGroup]:
    """One StartGroup for each group, or several parts of it where one record could not hold its tasks."""
    numbers = {
        key: {place: number for number, place in enumerate(found.producers)}
        for key, found in shared_keys(plan).items()
    }
    by_group: dict[str, list[PlannedTask]] = {}
    for task in plan.tasks:
        by_group.setdefault(task.group, []).append(task)
    for group in plan.request.task_groups:
        yield from _parts(run, group, by_group[group.name], numbers)


def _parts(run: Run, group: TaskGroup, tasks: list[PlannedTask], numbers: Numbers) -> Iterator[StartGroup]:
    parts: list[list[TaskOrder]] = [[]]
    size = 0
    for task in tasks:
        order = order_of(task, numbers)
        length = len(orjson.dumps(order.model_dump(mode="json", exclude_defaults=True)))
        if parts[-1] and size + length > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(order)
        size += length
    for number, orders in enumerate(parts):
        yield StartGroup(
            run_id=run.run_id,
            admission=run.admission,
            group=group.name,
            tasks=tuple(orders),
            part=number,
            parts=len(parts),
            timeout=group.timeout,
            max_concurrency=group.max_concurrency,
            most_chunks=MAX_CHUNKS,
        )


def order_of(task: PlannedTask, numbers: Numbers) -> TaskOrder:
    """A planned task as its owner gets it."""
    spec, place = task.spec, (task.group, task.name)
    return TaskOrder(
        name=task.name,
        agent=spec.agent,
        needs=tuple(Need(key=need.key, kind=need.kind, optional=need.optional) for need in task.needs),
        context_keys=tuple(sorted(task.context_keys)),
        result_keys=spec.result_keys,
        shares={key: numbers[key][place] for key in spec.result_keys if key in numbers},
        optional_result_keys=spec.optional_result_keys,
        message_template=spec.message_template,
        shared_instructions=spec.shared_instructions,
        inputs=spec.inputs,
        tools=spec.tools,
        expansion=spec.expansion_config,
        retry=spec.retry,
        max_deliveries=spec.max_deliveries,
        timeout=spec.timeout,
        tolerated_failures=spec.tolerated_failures,
        on_failure=spec.on_failure,
        max_concurrency=spec.max_concurrency,
    )
