"""The messages that open a run at its session's owner and start its groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from anabranch.core.request.models import TaskGroup
from anabranch.core.request.planning import Plan, PlannedTask
from anabranch.core.wire.messages import Need, OpenRun, SharedKey, StartGroup, SubmitRun, TaskOrder
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import RunLimits

MAX_CHUNKS = 4_096
"""The most chunks of a task at once. If members take long, a chunk is one member, so this bounds how many run at
once. The number is part of the record: a later release with another number still reads old records in the same
way."""
PART_BYTES = 600_000
"""Bytes of tasks in one StartGroup record."""


def open_run(submit: SubmitRun, plan: Plan, run: Run, limits: RunLimits | None) -> OpenRun:
    """The first message about a run for its session's owner."""
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
        submitted_at=run.tombstone.accepted_at,
        admission=run.admission,
        # On the log with the run, so that a restart with other settings does not change how its records are
        # decided.
        inline_limit=limits.inline_bytes if limits is not None else None,
        member_limit=limits.members if limits is not None else None,
    )


def shared_keys(plan: Plan) -> dict[str, SharedKey]:
    """The keys of the plan that have a context policy, with the tasks that produce them."""
    policies = plan.request.context_policies
    producers: dict[str, list[tuple[str, str]]] = {key: [] for key in policies}
    for task in plan.tasks if policies else ():
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


def start_groups(run: Run, plan: Plan) -> Iterator[StartGroup]:
    """A StartGroup message for each group, in several parts if its tasks do not fit into one record."""
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
        # A single task above the limit gets a record of its own, which is published in fragments.
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
    """A planned task in the form that the session's owner receives."""
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
