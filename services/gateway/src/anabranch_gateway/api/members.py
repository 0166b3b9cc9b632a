"""Routes: the members of a run's tasks, one by one, in pages, and as a map of cells."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from anabranch.core.expansion.members import member_name
from anabranch_gateway.access.auth import Viewer
from anabranch_gateway.api.runs import RunPath
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.inspection import MemberAddress, attempts, given_and_result, with_traceback
from anabranch_gateway.runs.lookup import Found, confirm, find, view_of
from anabranch_gateway.runs.member_projection import STATUSES, TaskMembers

router = APIRouter(prefix="/v1", tags=["members"])

MAX_ATTEMPTS = 1_000
MAX_LOGS = 1_000
TaskName = Annotated[str, Query(min_length=1, max_length=255)]
NamePath = Annotated[str, Path(min_length=1, max_length=255)]


@router.get("/runs/{run}/members")
async def members(
    run: RunPath,
    parts: WithParts,
    caller: Viewer,
    group: TaskName,
    task: TaskName,
    status: Annotated[str | None, Query(description=f"One of {', '.join(STATUSES)}")] = None,
    from_: Annotated[int, Query(alias="from", ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """The members of one task, as its events tell of them."""
    if status is not None and status not in STATUSES:
        raise Refusal(422, "schema", f"there is no status {status[:50]!r} of a member: {', '.join(STATUSES)}")
    found = await find(parts, caller, run)
    folded = await _members_of(parts, found, group, task)
    indexes = folded.page(from_, limit, status)
    last = indexes[-1] if indexes else len(folded)
    more = len(indexes) == limit and last + 1 < len(folded)
    document = {
        "total": folded.count(status),
        "members": [row(folded, task, index) for index in indexes],
        "next_from": last + 1 if more else None,
    }
    return answer(document)


@router.get("/runs/{run}/heatmap")
async def heatmap(
    run: RunPath,
    parts: WithParts,
    caller: Viewer,
    group: TaskName,
    task: TaskName,
    cells: Annotated[int, Query(ge=1, le=5_000)] = 500,
) -> Response:
    """All members of one task in a number of cells: how many of each are done, failed and running."""
    found = await find(parts, caller, run)
    folded = await _members_of(parts, found, group, task)
    per_cell, counted = folded.cells(cells)
    return answer({"total": len(folded), "per_cell": per_cell, "cells": counted})


@router.get("/runs/{run}/members/{group}/{task}/{index}")
async def member(
    run: RunPath,
    group: NamePath,
    task: NamePath,
    index: Annotated[str, Path(pattern=r"^(-|\d{1,7})$", description="From 0; `-` of an ordinary task")],
    parts: WithParts,
    caller: Viewer,
) -> Response:
    """One member: what it was given, what it gave, each attempt, and its lines of log."""
    found = await find(parts, caller, run)
    folded = await _members_of(parts, found, group, task)
    at = None if index == "-" else int(index)
    if (at is None) == folded.expanded or (at or 0) >= max(len(folded), 1):
        raise not_found(f"{group}/{task} has no member {index}", f"it has {len(folded)}")
    document = row(folded, task, at or 0) if len(folded) else {"index": at, "name": task, "status": "waiting"}
    subject = MemberAddress(parts, found, await view_of(parts, found), group, task, at)
    details = await given_and_result(subject, folded) | await attempts(subject)
    return answer(with_traceback(document | details))


# --- folded from events --------------------------------------------------------------------------


async def _members_of(parts: GatewayContext, found: Found, group: str, task: str) -> TaskMembers:
    """The members of a task, which has none yet where nothing of it has started.

    Raises:
        Refusal: 404, the run has no such task.
    """
    view = await view_of(parts, found)
    fold = await parts.folds.of(found.run_id, view.events_from or 0)
    await confirm(parts, found)
    known = fold.tasks.get((group, task))
    if known is not None:
        return known
    if view.task(group, task) is None:
        admitted = await parts.requests.of(found)
        if admitted.spec(group, task) is None:
            raise not_found(f"run {found.run_id} has no task {group}/{task}")
    return TaskMembers()


def row(folded: TaskMembers, task: str, index: int) -> dict[str, Any]:
    """A member in a table."""
    status = folded.shown(index)
    error = folded.errors.get(index) if status in ("failed", "held", "retrying") else None
    return {
        "index": index if folded.expanded else None,
        "name": member_name(task, index) if folded.expanded else task,
        "status": status,
        "attempts": folded.attempts[index],
        "worker": folded.workers[folded.worker[index]] or None,
        "started_at": folded.started_at[index] or None,
        "ended_at": folded.ended_at[index] or None,
        "error": None if error is None else {"type": error[0], "message": error[1]},
        "progress": folded.progress.get(index),
    }
