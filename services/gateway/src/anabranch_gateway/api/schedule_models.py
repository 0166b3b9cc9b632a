"""Models of the responses and bodies about schedules, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch_gateway.api.models import OpenModel


class FiringDocument(OpenModel):
    at: str = Field(description="Logical time, RFC 3339 in UTC")
    source: Literal["clock", "trigger", "backfill"]
    run_id: str | None = None
    status: str | None = Field(default=None, description="Of the past: that of the run, rejected, or missed")
    reason: str | None = Field(default=None, description="Why it was missed or rejected")
    ended_at: str | None = None


class ScheduleDocument(OpenModel):
    id: str
    project: str
    schedule: dict[str, Any] = Field(description="As it was put, in its canonical form")
    paused: bool
    paused_by: dict[str, Any] | None
    fired: int = Field(description="Firings by the clock that became runs")
    missed: dict[str, int] = Field(description="Missed firings by reason")
    next: list[str] = Field(description="The next ten logical times, RFC 3339 in UTC")
    running: list[FiringDocument]
    waiting: list[FiringDocument]
    history: list[FiringDocument] = Field(description="The last 100 that ended or were missed, the latest first")


class ScheduleList(OpenModel):
    schedules: list[ScheduleDocument]


class ScheduleDeleted(OpenModel):
    id: str
    action: Literal["delete"]


class ScheduleAction(OpenModel):
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    by: str | None = Field(
        default=None, max_length=MAX_BY, description="Who; only where the gateway does not know its caller"
    )
    from_: str | float | None = Field(default=None, alias="from", description="Of a backfill: its first time")
    to: str | float | None = Field(default=None, description="Of a backfill: its last time; default: now")
    overlap: Literal["buffer_all", "allow"] | None = Field(
        default=None, description="Of a backfill: one run after another (the default), or all at once"
    )
