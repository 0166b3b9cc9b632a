"""Routes: lines that agents logged, out of a run's events."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from anabranch.sdk.run_events import shown
from anabranch_gateway.access.auth import Viewer
from anabranch_gateway.api.runs import RunPath
from anabranch_gateway.api.streams import After, start_of
from anabranch_gateway.context import WithParts
from anabranch_gateway.events.run_events import past
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import confirm, find

router = APIRouter(prefix="/v1", tags=["members"])

LEVELS = ("debug", "info", "warning", "error", "critical")


@router.get("/runs/{run}/logs")
async def logs(
    run: RunPath,
    parts: WithParts,
    caller: Viewer,
    group: str | None = None,
    task: str | None = None,
    index: Annotated[int | None, Query(ge=0, le=10**9)] = None,
    level: Annotated[str | None, Query(description="This one and what is worse")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """The lines that agents of a run logged, in order."""
    found = await find(parts, caller, run)
    start = await start_of(parts, found, after)
    lines: list[dict[str, Any]] = []
    last = None if start.after is None else str(start.after)
    async with aclosing(past(parts.live, found.run_id, start)) as records:
        async for told in records:
            for place, event in told.events:
                if event["type"] == "task.log" and _fits(event, group, task, index, level):
                    lines.append(shown(event))
                last = str(place)
                if len(lines) == limit:
                    await confirm(parts, found)
                    return answer({"logs": lines, "next_after": last})
    await confirm(parts, found)
    return answer({"logs": lines, "next_after": last})


def _fits(
    event: dict[str, Any], group: str | None, task: str | None, index: int | None, level: str | None
) -> bool:
    return (
        group in (None, event.get("group"))
        and task in (None, event.get("task"))
        and index in (None, event.get("index"))
        and (level is None or _rank(str(event.get("level", "info"))) >= _rank(level))
    )


def _rank(level: str) -> int:
    name = level.lower()
    return LEVELS.index(name) if name in LEVELS else LEVELS.index("info")
