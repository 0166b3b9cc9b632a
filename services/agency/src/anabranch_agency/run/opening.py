"""The messages that open a run at its session's owner and start its groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY
from anabranch.core.limit_addresses import MAX_NAME
from anabranch.core.request.budget_fields import tightest
from anabranch.core.request.limits import rendered_key
from anabranch.core.wire.messages import Inherited, OpenRun, SubmitRun
from anabranch_agency.run.known_plans import PlannedRequest
from anabranch_agency.run.planning import CompiledGroup
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import DecisionConfig

_NOTHING = Inherited()
PART_BYTES = 600_000
"""Bytes of tasks in one StartGroup record."""


def open_run(submit: SubmitRun, planned: PlannedRequest, run: Run, config: DecisionConfig) -> OpenRun:
    """The first message about a run for its session's owner."""
    limits, configured = config.limits, config.configured_limits
    plan, inherited, due_at = planned.plan, submit.inherited or _NOTHING, planned.free.deadline
    if inherited.due_at is not None:
        due_at = inherited.due_at if due_at is None else min(due_at, inherited.due_at)
    return OpenRun(
        run_id=submit.run_id,
        request_id=submit.request_id,
        session_id=submit.session_id,
        groups=plan.group_names,
        context=planned.visible_context(),
        deadline=run.deadline,
        traceparent=submit.traceparent,
        retry_of=submit.retry_of,
        reserved_keys=plan.reserved_keys,
        shared=dict(plan.shared),
        alternatives=dict(plan.alternatives),
        phases=plan.phases,
        submitted_at=run.tombstone.accepted_at,
        admission=run.admission,
        # On the log with the run, so that a restart with other settings does not change how its records are
        # decided.
        inline_limit=limits.inline_bytes if limits is not None else None,
        member_limit=limits.members if limits is not None else None,
        depth=submit.parent.depth if submit.parent is not None else 0,
        project=plan.project,
        forked_from=submit.forked_from,
        taken=submit.taken,
        requested_by=submit.requested_by,
        budget=plan.budget if submit.budget is None else tightest(plan.budget, submit.budget),
        priority=plan.priority or inherited.priority or DEFAULT_PRIORITY,
        pool=plan.pool or inherited.pool or DEFAULT_POOL,
        fairness_key=(plan.fairness_key and _fairness_key(plan.fairness_key, run, planned))
        or inherited.fairness_key,
        due_at=due_at,
        configured_limits=None if configured is None else configured.of_run(plan.project, plan.agents),
    )


def ids_of(run: Run) -> dict[str, str]:
    """The ids that keys of a run may name in placeholders."""
    return {"run_id": run.run_id, "request_id": run.request_id, "session_id": run.session_id}


def _fairness_key(key: str, run: Run, planned: PlannedRequest) -> str:
    return rendered_key(key, planned.free.context, **ids_of(run))[:MAX_NAME] if "{" in key else key


def start_groups(run: Run, planned: PlannedRequest) -> Iterator[bytes]:
    """A StartGroup record for each group, in several parts if its tasks do not fit into one."""
    for group in planned.plan.groups:
        tasks = group.tasks.fill(planned.gaps)
        parts = [tasks] if len(tasks) <= PART_BYTES else list(_parts(group, planned.gaps))
        for number, part in enumerate(parts):
            header = {
                **group.start,
                "run_id": run.run_id,
                "admission": run.admission,
                "tasks": orjson.Fragment(part),
            }
            if len(parts) > 1:
                header |= {"part": number, "parts": len(parts)}
            yield dumps(header)


def _parts(group: CompiledGroup, gaps: Sequence[bytes]) -> Iterator[bytes]:
    """The tasks of a group as JSON arrays, each within the limit unless it has a single task."""
    part: list[bytes] = []
    size = 0
    for order in group.orders:
        task = order.fill(gaps)
        # A single task above the limit gets a record of its own, which is published in fragments.
        if part and size + len(task) > PART_BYTES:
            yield b"[" + b",".join(part) + b"]"
            part, size = [], 0
        part.append(task)
        size += len(task)
    yield b"[" + b",".join(part) + b"]"
