"""Lists runs with filters and a cursor. The cursor says after which run to go on, and about where that stands in
the index: runs that come meanwhile are not shown, and none is shown twice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.waiting import waits_for
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.views import list_views
from anabranch_gateway.access.auth import Caller
from anabranch_gateway.api.serializers import summary
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http.problems import Refusal

PAGE = 200
MAX_LOOKED_AT = 2_000
"""Runs that one request looks at: a filter that hardly any fits answers with few, and with a cursor to go on."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a run has to be to be listed; None and empty let all through."""

    status: str | None = None
    name: str | None = None
    labels: tuple[str, ...] = ()
    session_id: str | None = None
    project: str | None = None
    retry_of: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    """A part of the name, or the beginning of an id."""

    def let_through(self, view: RunView) -> bool:
        at = view.submitted_at or 0.0
        return (
            self.status in (None, view.status)
            and self.name in (None, view.name)
            and all(_labelled(view, each) for each in self.labels)
            and self.session_id in (None, view.session_id)
            and self.project in (None, _project(view))
            and self.retry_of in (None, view.retry_of)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.text is None or _says(view, self.text.casefold()))
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last run that was looked at, and how many of the index came before it."""

    offset: int = 0
    at: float | None = None
    run_id: str = ""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.offset, self.at, self.run_id])).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Raises Refusal 422 where it is none."""
        if text is None:
            return cls()
        try:
            offset, at, run_id = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, binascii.Error) as error:
            raise _no_cursor(text) from error
        if not isinstance(offset, int) or not isinstance(at, float | int) or not isinstance(run_id, str):
            raise _no_cursor(text)
        if isinstance(offset, bool) or not 0 <= offset <= 1_000_000_000:
            raise _no_cursor(text)
        return cls(offset, float(at), run_id)

    def is_behind(self, view: RunView) -> bool:
        """Whether a run comes after the one of the cursor, in the order of the list."""
        if self.at is None:
            return True
        return _order(view) < (self.at, self.run_id)


async def list_runs(
    parts: GatewayContext,
    caller: Caller,
    filters: Filters,
    limit: int,
    text: str | None,
    shape: Callable[[RunView], dict[str, Any]] = summary,
) -> dict[str, Any]:
    """`{"runs", "next_cursor"}`, each run in this shape.

    Raises:
        Refusal: 422, the cursor is none.
        ServerUnavailable: the store does not answer.
    """
    cursor = Cursor.parse(text)
    now = parts.client.links.clock.now()
    shown: list[RunView] = []
    offset, looked_at = cursor.offset, 0

    def documents() -> list[dict[str, Any]]:
        return [shape(view) | {"waits_for": waits_for(view, now)} for view in shown]

    while looked_at < MAX_LOOKED_AT:
        views = await list_views(parts.client.store, parts.client.names, PAGE, offset)
        if not views:
            # Views expire before the index forgets their runs: a page without any is the end, or a hole in it.
            return {"runs": documents(), "next_cursor": None}
        for place, view in enumerate(views):
            if not cursor.is_behind(view):
                continue
            cursor = Cursor(offset + place, *_order(view))
            if _is_seen(caller, view) and filters.let_through(view):
                shown.append(view)
                if len(shown) == limit:
                    return {"runs": documents(), "next_cursor": str(cursor)}
        offset += PAGE
        looked_at += PAGE
    return {"runs": documents(), "next_cursor": str(cursor)}


def _order(view: RunView) -> tuple[float, str]:
    return float(view.submitted_at or view.last_fact_at or 0.0), view.run_id


def _is_seen(caller: Caller, view: RunView) -> bool:
    return caller.sees(_project(view)) if view.project is not None else caller.projects is None


def _project(view: RunView) -> str:
    return view.project or DEFAULT_PROJECT


def _labelled(view: RunView, wanted: str) -> bool:
    """`key:value`, or `key` alone for any value. A key may have colons of its own."""
    return wanted in view.labels or any(wanted == f"{key}:{value}" for key, value in view.labels.items())


def _says(view: RunView, text: str) -> bool:
    ids = (view.run_id, view.request_id or "", view.session_id)
    return text in (view.name or "").casefold() or any(each.casefold().startswith(text) for each in ids)


def _no_cursor(text: str) -> Refusal:
    return Refusal(422, "bad_position", f"{text[:80]!r} is no cursor: take next_cursor of the page before")
