"""Lists the runs that a caller sees, with filters and a cursor."""

from __future__ import annotations

from dataclasses import replace

from anabranch.core.run_filter import RunFilter
from anabranch.ports import RunIndex, RunPage
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.http.problems import Refusal


async def list_runs(index: RunIndex, caller: Caller, wanted: RunFilter, limit: int, cursor: str | None) -> RunPage:
    """The next runs of the caller's projects that match.

    Raises:
        Refusal: 422, the cursor is invalid.
        ServerUnavailable: the store does not respond.
    """
    visible = replace(wanted, visible_projects=caller.projects)
    try:
        return await index.search(visible, limit, cursor)
    except ValueError as error:
        detail = f"{(cursor or '')[:80]!r} is not a cursor: use next_cursor of the previous page"
        raise Refusal(422, "bad_position", detail) from error
