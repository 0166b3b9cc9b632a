"""Routes: the members of a run's tasks: in pages, as cells of a heat map, and one by one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from anabranch.core.expansion.members import member_name
from anabranch.core.wire.usage import usage_document
from anabranch_gateway.access.callers import Viewer
from anabranch_gateway.api.parameters import RunPath
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.responses import json_response
from anabranch_gateway.runs.inspection import MemberAddress, with_traceback
from anabranch_gateway.runs.lookup import FoundRun
from anabranch_gateway.runs.member_projection import STATUSES, TaskMembers

router = APIRouter(prefix="/v1", tags=["members"])

TaskName = Annotated[str, Query(min_length=1, max_length=255)]
NamePath = Annotated[str, Path(min_length=1, max_length=255)]


@router.get("/runs/{run}/members")
async def members(
    run: RunPath,
    context: WithContext,
    caller: Viewer,
    group: TaskName,
    task: TaskName,
    status: Annotated[str | None, Query(description=f"One of {', '.join(STATUSES)}")] = None,
    from_: Annotated[int, Query(alias="from", ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """The members of one task, as of its events."""
    if status is not None and status not in STATUSES:
        raise Refusal(422, "schema", f"a member has no status {status[:50]!r}; use one of {', '.join(STATUSES)}")
    found = await context.lookup.find(caller, run)
    projection = await _task_members(context, found, group, task)
    indexes = projection.page(from_, limit, status)
    last = indexes[-1] if indexes else len(projection)
    more = len(indexes) == limit and last + 1 < len(projection)
    document = {
        "total": projection.count(status),
        "members": [_row(projection, task, index) for index in indexes],
        "next_from": last + 1 if more else None,
    }
    return json_response(document)


@router.get("/runs/{run}/heatmap")
async def heatmap(
    run: RunPath,
    context: WithContext,
    caller: Viewer,
    group: TaskName,
    task: TaskName,
    cells: Annotated[int, Query(ge=1, le=5_000)] = 500,
) -> Response:
    """The members of one task in cells of equal size: the number of done, failed and running members of each."""
    found = await context.lookup.find(caller, run)
    projection = await _task_members(context, found, group, task)
    per_cell, counted = projection.cells(cells)
    return json_response({"total": len(projection), "per_cell": per_cell, "cells": counted})


@router.get("/runs/{run}/members/{group}/{task}/{index}")
async def member(
    run: RunPath,
    group: NamePath,
    task: NamePath,
    index: Annotated[str, Path(pattern=r"^(-|\d{1,7})$", description="From 0; `-` for an ordinary task")],
    context: WithContext,
    caller: Viewer,
) -> Response:
    """One member: its inputs, its results, each attempt, and its log lines."""
    found = await context.lookup.find(caller, run)
    projection = await _task_members(context, found, group, task)
    # A task that has not started has no members in the projection, but its first one can be asked for.
    at = None if index == "-" else int(index)
    if (at is None) == projection.expanded or (at or 0) >= max(len(projection), 1):
        raise not_found(f"{group}/{task} has no member {index}", f"it has {len(projection)} members")
    if len(projection):
        document = _row(projection, task, at or 0)
    else:
        document = {"index": at, "name": task, "status": "waiting"}
    subject = MemberAddress(found, await context.lookup.view(found), group, task, at)
    details = await context.inspector.inputs_and_result(subject, projection)
    details |= await context.inspector.attempts(subject)
    return json_response(with_traceback(document | details))


async def _task_members(context: GatewayContext, found: FoundRun, group: str, task: str) -> TaskMembers:
    """The members of a task; none if nothing of it has started yet.

    Raises:
        Refusal: 404, the run has no such task.
    """
    view = await context.lookup.view(found)
    projection = await context.projections.read(found.run_id, view.events_from or 0)
    await context.lookup.confirm(found)
    known = projection.tasks.get((group, task))
    if known is not None:
        return known
    if view.task(group, task) is None:
        admitted = await context.requests.get(found)
        if admitted.spec(group, task) is None:
            raise not_found(f"run {found.run_id} has no task {group}/{task}")
    return TaskMembers()


def _row(projection: TaskMembers, task: str, index: int) -> dict[str, Any]:
    """A member in a table."""
    status = projection.status_of(index)
    error = projection.errors.get(index) if status in ("failed", "held", "retrying") else None
    return {
        "index": index if projection.expanded else None,
        "name": member_name(task, index) if projection.expanded else task,
        "status": status,
        "attempts": projection.attempts[index],
        "worker": projection.workers[projection.worker[index]] or None,
        "started_at": projection.started_at[index] or None,
        "ended_at": projection.ended_at[index] or None,
        "error": None if error is None else {"type": error[0], "message": error[1]},
        "progress": projection.progress.get(index),
        **usage_document(projection.usage.get(index, {})),
    }
