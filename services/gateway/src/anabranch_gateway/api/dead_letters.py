"""Routes: dead letters, by kind of failure and one by one, and what is to become of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code
from anabranch.dead_letters.decisions import (
    Action,
    LetterSelection,
    decide,
    document,
    groups_shown,
    letter_shown,
    why_not_redriven,
)
from anabranch.dead_letters.grouping import whole
from anabranch.dead_letters.reader import Letter
from anabranch_gateway.access.auth import Caller, Operator, Viewer
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import find

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

MAX_IDS = 1_000
StateQuery = Annotated[
    Literal["open", "redriven", "dismissed", "superseded", "all"], Query(description="What was decided about it")
]


@router.get("")
async def letters(
    parts: WithParts,
    caller: Viewer,
    state: StateQuery = "open",
    signature: str | None = None,
    run: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=60, description="next_cursor of the page before")] = None,
) -> Response:
    """Dead letters, the latest first."""
    found = await _chosen(parts, caller, state, signature, run)
    found.reverse()
    start = 0
    if cursor is not None:
        start = next((place + 1 for place, letter in enumerate(found) if letter.id == cursor), len(found))
    page = found[start : start + limit]
    more = start + limit < len(found)
    why_not = await why_not_redriven(parts.client, page)
    lines = [_line(each) | {"redrive_refused": why_not.get(each.id)} for each in page]
    return answer({"letters": lines, "next_cursor": page[-1].id if page and more else None})


@router.get("/groups")
async def groups(
    parts: WithParts,
    caller: Viewer,
    state: StateQuery = "open",
    signature: str | None = None,
    run: str | None = None,
) -> Response:
    """Dead letters by what went wrong, the kind with the latest one first."""
    found = await _chosen(parts, caller, state, signature, run)
    return answer({"groups": await groups_shown(parts.client, found), "letters": len(found)})


@router.get("/{letter_id}")
async def letter(
    letter_id: Annotated[str, Path(max_length=60, description="partition:offset")],
    parts: WithParts,
    caller: Viewer,
) -> Response:
    """Everything there is of one dead letter."""
    for each in await parts.letters.of(caller):
        if each.id == letter_id:
            return answer(await letter_shown(parts.client, each))
    raise not_found(f"no such dead letter: {letter_id}", "ids are partition:offset")


@router.post("/redrive")
async def redrive(request: Request, parts: WithParts, caller: Operator) -> Response:
    """Let held members run again, and send refused requests once more."""
    return await _decide(request, parts, caller, "redrive")


@router.post("/dismiss")
async def dismiss(request: Request, parts: WithParts, caller: Operator) -> Response:
    """Let held members count as failed, and note of all others that nothing is to be done."""
    return await _decide(request, parts, caller, "dismiss")


async def _chosen(
    parts: GatewayContext, caller: Caller, state: str, signature: str | None, run: str | None
) -> list[Letter]:
    wanted = await _of_run(parts, run)
    return [
        each
        for each in await parts.letters.of(caller)
        if state in ("all", each.state) and signature in (None, each.signature) and wanted(each)
    ]


async def _of_run(parts: GatewayContext, run: str | None) -> Callable[[Letter], bool]:
    """A refused request has no run, and is found by the one that it would have had."""
    if run is None:
        return lambda _: True
    run_id = await parts.client.run_id_of(run)
    return lambda letter: letter.run_id == run_id


async def _decide(request: Request, parts: GatewayContext, caller: Caller, action: Action) -> Response:
    body = await read_object(request, frozenset({"ids", "signature", "run"}))
    choice = LetterSelection(_ids(body), text_field(body, "signature", 64), text_field(body, "run", 300))
    if bool(choice.ids) == (choice.signature is not None or choice.run is not None):
        raise Refusal(422, str(Code.SCHEMA), "give ids of dead letters, or a signature, a run, or both")
    if choice.run is not None:
        await find(parts, caller, choice.run)
    visible = {letter.id for letter in await parts.letters.of(caller)}
    missing = [each for each in choice.ids if each not in visible]
    if missing:
        raise not_found(f"no such dead letter: {missing[0]}", "ids are partition:offset")
    decisions = await decide(parts.client, action, choice, lambda letter: letter.id in visible)
    ids = " ".join(each.id for each in decisions.done)
    parts.audit.note(request, caller, f"dead_letters.{action}", run_id=choice.run, detail=ids[:2_000])
    return answer(document(action, decisions))


def _ids(body: dict[str, Any]) -> tuple[str, ...]:
    ids = body.get("ids") or ()
    if not isinstance(ids, list | tuple) or len(ids) > MAX_IDS or not all(isinstance(each, str) for each in ids):
        raise Refusal(422, str(Code.SCHEMA), f"ids is no list of up to {MAX_IDS} ids")
    return tuple(ids)


def _line(letter: Letter) -> dict[str, Any]:
    """A dead letter in a list: without its bytes and its traceback."""
    document = whole(letter)
    for name in ("value", "headers", "key"):
        del document[name]
    if document["member"] is not None:
        del document["member"]["traceback"]
    return document
