"""Routes: signals to runs, decisions of people, and the inbox of what waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import load_document
from anabranch.core.names import run_id_for
from anabranch.core.ranges import Ranges
from anabranch.core.request.models import MAX_BY
from anabranch.core.run_filter import RunFilter
from anabranch.core.wire.run_view import RunView
from anabranch.sdk.approvals import REFUSALS, Answerable, DecisionRefused, send_decision
from anabranch_gateway.access.callers import Caller, Submitter, Viewer
from anabranch_gateway.api.parameters import RunPath
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_body, read_object, text_field
from anabranch_gateway.http.responses import json_response
from anabranch_gateway.runs.lookup import FoundRun, require_open
from anabranch_gateway.runs.query import list_runs

router = APIRouter(prefix="/v1", tags=["waits"])

NamePath = Annotated[str, Path(max_length=255)]
PAGE, MAX_PAGES = 500, 20
"""Open runs in one read of the index, and reads of one look at the inbox."""
_DECISION_FIELDS = frozenset({"decision", "data", "comment", "index", "iteration", "by", "decision_id"})
_ENVELOPE = frozenset({"value", "signal_id"})


@router.post("/runs/{run}/signals/{name}", status_code=202)
async def signal(
    run: RunPath, name: NamePath, request: Request, context: WithContext, caller: Submitter
) -> Response:
    """Send a signal to a run: `{"value": ..., "signal_id": ...}`, or the value itself if it is anything else."""
    value, signal_id = _signal_of(await _json_body(request, context))
    run_id, project, known = await _addressed(context, caller, run)
    given = signal_id or request.headers.get("idempotency-key")
    await context.client.control("signal", run_id=run_id, name=name, value=value, signal_id=given)
    context.audit.record(request, caller, "signal", project=project, run_id=run_id, detail=name)
    return json_response({"run_id": run_id, "action": "signal", "name": name, "known": known}, 202)


@router.post("/runs/{run}/approvals/{group}/{task}")
async def approve(
    run: RunPath, group: NamePath, task: NamePath, request: Request, context: WithContext, caller: Submitter
) -> Response:
    """Decide about a task that waits for a person. The response is 200 once the decision counts."""
    body = await read_object(request, context.parsing, _DECISION_FIELDS)
    found = await context.lookup.find(caller, run)
    if found.final is not None:
        raise _refusal(DecisionRefused("gone", f"run {found.run_id} has ended: {found.final['status']}"))
    try:
        decision = await send_decision(context.client.links, _wanted(found, group, task, body, caller))
    except DecisionRefused as refused:
        raise _refusal(refused) from refused
    context.audit.record(
        request,
        caller,
        "approve",
        project=found.project,
        run_id=found.run_id,
        detail=f"{group}/{task}: {decision.decision}",
    )
    return json_response({name: getattr(decision, name) for name in decision.__dataclass_fields__})


@router.get("/approvals")
async def approvals(
    context: WithContext,
    caller: Viewer,
    project: str | None = None,
    assignee: Annotated[str | None, Query(description="Only what this person may decide")] = None,
) -> Response:
    """What waits for the decision of a person, the longest wait first."""
    # A run that is being compensated may ask a person in its `finally`.
    found = [
        each
        for status in ("running", "compensating")
        for view in await _recent(context, caller, RunFilter(status=status, project=project))
        for each in _open_approvals(view)
    ]
    if assignee is not None:
        found = [each for each in found if not each["assignees"] or assignee in each["assignees"]]
    return json_response({"approvals": sorted(found, key=lambda each: each["since"])})


async def _recent(context: GatewayContext, caller: Caller, wanted: RunFilter) -> list[RunView]:
    """The runs that match, of the first pages."""
    found: list[RunView] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await list_runs(context.run_index, caller, wanted, PAGE, cursor)
        found += page.views
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _open_approvals(view: RunView) -> Iterator[dict[str, Any]]:
    for group, name, task in view.tasks():
        for wait in task.waits:
            if wait.get("reason") != "approval":
                continue
            for index in Ranges.from_pairs(wait["members"]).indexes():
                yield {
                    "run_id": view.run_id,
                    "run_name": view.name,
                    "project": view.project,
                    "group": group,
                    "task": name,
                    "index": index if task.expanded else None,
                    "since": wait["since"],
                    "until": wait.get("until"),
                    "decisions": wait.get("decisions", []),
                    **(wait.get("approval") or {}),
                }


# --- helpers -------------------------------------------------------------------------------------


async def _json_body(request: Request, context: GatewayContext) -> Any:
    async with context.parsing.reservation() as reservation:
        data = await read_body(request, context.limits.parsed_bytes, reservation)
        if not data.strip():
            return None
        try:
            return await context.parsing.large.run(load_document, data)
        except RequestRefused as refused:
            [problem] = refused.errors
            raise Refusal(422, str(problem.code), f"invalid body: {problem.message}") from refused


def _signal_of(body: Any) -> tuple[Any, str | None]:
    """Value and id of a signal. An object with other fields than these is the value itself."""
    if isinstance(body, dict) and "value" in body and body.keys() <= _ENVELOPE:
        return body["value"], text_field(body, "signal_id", 255)
    return body, None


async def _addressed(context: GatewayContext, caller: Caller, run: str) -> tuple[str, str | None, bool]:
    """Run id, project, and whether the run is known. A run that is not submitted yet has no project, so only a
    caller with access to every project may send it a signal."""
    try:
        found = await context.lookup.find(caller, run)
    except Refusal as refusal:
        if refusal.status != 404 or caller.projects is not None:
            raise
        # The same text as an id and as a request id: the signal is for whichever is submitted.
        return (run if _is_run_id(run) else run_id_for(run)), None, False
    require_open(found)
    return found.run_id, found.project, True


def _is_run_id(text: str) -> bool:
    return len(text) == 36 and text[14] == "5" and text.count("-") == 4


def _wanted(found: FoundRun, group: str, task: str, body: dict[str, Any], caller: Caller) -> Answerable:
    index, iteration = body.get("index"), body.get("iteration")
    if index is not None and (type(index) is not int or index < 0):
        raise Refusal(422, str(Code.SCHEMA), "index must be a whole number from 0")
    return Answerable(
        run_id=found.run_id,
        group=group,
        task=task,
        decision=text_field(body, "decision", 255) or "approve",
        index=index,
        iteration=tuple(iteration) if isinstance(iteration, list) else None,
        data=body.get("data"),
        comment=text_field(body, "comment", 10_000) or "",
        by=caller.acting_as(text_field(body, "by", MAX_BY)),
        decision_id=text_field(body, "decision_id", 255),
    )


def _refusal(refused: DecisionRefused) -> Refusal:
    if refused.code == "not_found":
        return not_found(str(refused))
    problems = [Problem(Code.SCHEMA, str(each["path"]), str(each["message"])) for each in refused.errors]
    more = {} if refused.stood is None else {"stood": refused.stood}
    return Refusal(REFUSALS[refused.code], refused.code, str(refused), errors=problems, more=more)
