"""Routes: dead letters, grouped by failure and one by one, and the decisions to redrive or dismiss them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.dead_letters.decisions import (
    Action,
    DeadLetterSelection,
    dead_letter_details,
    decide,
    document,
    grouped_with_redrivable,
    why_not_redriven,
)
from anabranch.dead_letters.grouping import to_document
from anabranch.dead_letters.reader import DeadLetter
from anabranch_gateway.access.callers import Caller, Operator, Viewer
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

MAX_IDS = 1_000
StateQuery = Annotated[
    Literal["open", "redriven", "dismissed", "superseded", "all"],
    Query(description="Decision about the dead letter"),
]


@router.get("")
async def letters(
    context: WithContext,
    caller: Viewer,
    state: StateQuery = "open",
    signature: str | None = None,
    run: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=60, description="next_cursor of the previous page")] = None,
) -> Response:
    """Dead letters, the latest first."""
    found = await _select(context, caller, state, signature, run)
    found.reverse()
    start = 0
    # The cursor is an id, not an index, because new dead letters move all indexes of a list that starts with them.
    if cursor is not None:
        start = next((index + 1 for index, letter in enumerate(found) if letter.id == cursor), len(found))
    page = found[start : start + limit]
    more = start + limit < len(found)
    why_not = await why_not_redriven(context.client, page)
    rows = [_row(each) | {"redrive_refused": why_not.get(each.id)} for each in page]
    return json_response({"letters": rows, "next_cursor": page[-1].id if page and more else None})


@router.get("/groups")
async def groups(
    context: WithContext,
    caller: Viewer,
    state: StateQuery = "open",
    signature: str | None = None,
    run: str | None = None,
) -> Response:
    """Dead letters grouped by failure, the group with the latest one first."""
    found = await _select(context, caller, state, signature, run)
    return json_response({"groups": await grouped_with_redrivable(context.client, found), "letters": len(found)})


@router.get("/{letter_id}")
async def letter(
    letter_id: Annotated[str, Path(max_length=60, description="partition:offset")],
    context: WithContext,
    caller: Viewer,
) -> Response:
    """All details of one dead letter."""
    for each in await context.dead_letters.read(caller):
        if each.id == letter_id:
            return json_response(await dead_letter_details(context.client, each))
    raise not_found(f"no such dead letter: {letter_id}", "ids are partition:offset")


@router.post("/redrive")
async def redrive(request: Request, context: WithContext, caller: Operator) -> Response:
    """Run held members again, and publish refused requests again."""
    return await _decide(request, context, caller, "redrive")


@router.post("/dismiss")
async def dismiss(request: Request, context: WithContext, caller: Operator) -> Response:
    """Count held members as failed, and mark all other dead letters as dismissed."""
    return await _decide(request, context, caller, "dismiss")


async def _select(
    context: GatewayContext, caller: Caller, state: str, signature: str | None, run: str | None
) -> list[DeadLetter]:
    matches_run = await _run_filter(context, run)
    return [
        each
        for each in await context.dead_letters.read(caller)
        if state in ("all", each.state) and signature in (None, each.signature) and matches_run(each)
    ]


async def _run_filter(context: GatewayContext, run: str | None) -> Callable[[DeadLetter], bool]:
    """Matches the dead letters of a run.

    A refused request has no run, and matches the id that its run would have.
    """
    if run is None:
        return lambda _: True
    run_id = await context.client.run_id_of(run)
    return lambda letter: letter.run_id == run_id


async def _decide(request: Request, context: GatewayContext, caller: Caller, action: Action) -> Response:
    body = await read_object(request, context.parsing, frozenset({"ids", "signature", "run", "reason"}))
    reason = text_field(body, "reason", MAX_REASON)
    selection = DeadLetterSelection(_ids(body), text_field(body, "signature", 64), text_field(body, "run", 300))
    if bool(selection.ids) == (selection.signature is not None or selection.run is not None):
        raise Refusal(422, str(Code.SCHEMA), "give the ids of dead letters, or a signature, a run, or both")
    if selection.run is not None:
        await context.lookup.find(caller, selection.run)
    visible = {letter.id for letter in await context.dead_letters.read(caller)}
    missing = [each for each in selection.ids if each not in visible]
    if missing:
        raise not_found(f"no such dead letter: {missing[0]}", "ids are partition:offset")
    # `decide` reads the topic again: the filter limits a selection by signature or run to what the caller may
    # see.
    decisions = await decide(
        context.client,
        action,
        selection,
        lambda letter: letter.id in visible,
        by=caller.actor[:MAX_BY],
        reason=reason,
    )
    ids = " ".join(each.id for each in decisions.done)
    context.audit.record(request, caller, f"dead_letters.{action}", run_id=selection.run, detail=ids[:2_000])
    return json_response(document(action, decisions))


def _ids(body: dict[str, Any]) -> tuple[str, ...]:
    ids = body.get("ids") or ()
    if not isinstance(ids, list | tuple) or len(ids) > MAX_IDS or not all(isinstance(each, str) for each in ids):
        raise Refusal(422, str(Code.SCHEMA), f"ids must be a list of up to {MAX_IDS} ids")
    return tuple(ids)


def _row(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter in a list, without its bytes and traceback."""
    document = to_document(letter)
    for name in ("value", "headers", "key"):
        del document[name]
    if document["member"] is not None:
        del document["member"]["traceback"]
    return document
