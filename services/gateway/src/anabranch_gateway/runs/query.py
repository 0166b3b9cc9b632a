"""Lists the runs that a caller sees, with filters and a cursor."""

from __future__ import annotations

from dataclasses import replace

import orjson

from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.conditions.operators import Data
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import parse_filter
from anabranch.ports import RunIndex, RunPage
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.http.problems import Refusal


def condition_of(text: str) -> Data:
    """The filter in a query, as text or as JSON.

    Raises:
        Refusal: 422, it is no filter.
    """
    try:
        given: object = orjson.loads(text) if text.lstrip().startswith("{") else text
    except orjson.JSONDecodeError as error:
        raise Refusal(422, "bad_filter", f"the filter is no JSON: {error}") from error
    try:
        return parse_filter(given)
    except InvalidCondition as error:
        raise Refusal(422, "bad_filter", str(error)) from error


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
