"""Routes: the log lines of a run's agents, from the run's events."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from anabranch.sdk.run_events import shown
from anabranch_gateway.access.callers import Viewer
from anabranch_gateway.api.parameters import After, RunPath
from anabranch_gateway.api.run_events import read_start
from anabranch_gateway.context import WithContext
from anabranch_gateway.events.run_events import read_past
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1", tags=["members"])

LEVELS = ("debug", "info", "warning", "error", "critical")


@router.get("/runs/{run}/logs")
async def logs(
    run: RunPath,
    context: WithContext,
    caller: Viewer,
    group: str | None = None,
    task: str | None = None,
    index: Annotated[int | None, Query(ge=0, le=10**9)] = None,
    level: Annotated[str | None, Query(description="Minimum level")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """The log lines of a run's agents, in order."""
    found = await context.lookup.find(caller, run)
    start = await read_start(context.lookup, found, after)
    lines: list[dict[str, Any]] = []
    last = None if start.after is None else str(start.after)
    async with aclosing(read_past(context.broadcaster, found.run_id, start)) as records:
        async for decoded in records:
            for event_id, event in decoded.events:
                if event["type"] == "task.log" and _matches(event, group, task, index, level):
                    lines.append(shown(event))
                # Of every event, so that the next page does not read again what did not match.
                last = str(event_id)
                if len(lines) == limit:
                    await context.lookup.confirm(found)
                    return json_response({"logs": lines, "next_after": last})
    await context.lookup.confirm(found)
    return json_response({"logs": lines, "next_after": last})


def _matches(
    event: dict[str, Any], group: str | None, task: str | None, index: int | None, level: str | None
) -> bool:
    return (
        group in (None, event.get("group"))
        and task in (None, event.get("task"))
        and index in (None, event.get("index"))
        and (level is None or _rank(str(event.get("level", "info"))) >= _rank(level))
    )


def _rank(level: str) -> int:
    """Severity of a level; an unknown one counts as `info`."""
    name = level.lower()
    return LEVELS.index(name) if name in LEVELS else LEVELS.index("info")
