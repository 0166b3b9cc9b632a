"""Routes: submitting, planning, listing and looking at runs, and acting on them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Code, RequestRefused
from anabranch.core.json_documents import Format
from anabranch.core.waiting import waits_for
from anabranch.core.wire.results import is_reference
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.views import with_heartbeats
from anabranch.sdk.client import Control
from anabranch.sdk.run import Run
from anabranch_gateway.access.auth import Caller, Submitter, Viewer, admitted
from anabranch_gateway.access.leases import Lease
from anabranch_gateway.api import serializers
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.parsing import LARGE, Share
from anabranch_gateway.http.problems import Refusal, refused
from anabranch_gateway.http.request_body import read_body, read_object, text_field
from anabranch_gateway.http.responses import answer, json_answer
from anabranch_gateway.runs.lookup import Found, find, require_open, view_of
from anabranch_gateway.runs.query import Filters, list_runs
from anabranch_gateway.runs.results import page, results_of
from anabranch_gateway.runs.submission import (
    Submission,
    prepare,
    publish,
    read,
    taken_retry,
    with_session_refusal,
)

router = APIRouter(prefix="/v1", tags=["runs"])

MAX_WAITED = 300.0
StrictQuery = Annotated[bool, Query(description="Refuse placeholders that have no value")]
RunPath = Annotated[str, Path(min_length=1, max_length=300, description="A run id or a request id")]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])")


async def _submit_headers(
    idempotency_key: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header()] = None,
    traceparent: Annotated[str | None, Header()] = None,
    strict: StrictQuery = False,
) -> None:
    """For the API's description: `submit` reads them itself."""


@router.post("/runs", status_code=202, dependencies=[Depends(_submit_headers)])
async def submit(request: Request) -> Response:
    """Submit a request: once for each request id, however often it is sent."""
    parts: GatewayContext = request.app.state.parts
    caller = await admitted(request, "submitter")
    trace = request.headers.get("traceparent")
    if trace is not None and _TRACEPARENT.fullmatch(trace) is None:
        trace = None
    wait, run = _wait(request.headers.get("prefer")), None
    async with parts.parsing.share() as share:
        submission = await _submission(request, parts, caller, share)
        if wait is not None:
            run = await _watched(parts, submission)
        await publish(parts, submission, trace)
        submission = submission.published()
    _note(request, parts, caller, submission)
    if wait is None or run is None:
        return _accepted(submission)
    lease = Lease(parts.guard, request, caller, "submitter", submission.project)
    return await _waited(parts, lease, run, wait) or _accepted(submission)


async def _submission(request: Request, parts: GatewayContext, caller: Caller, share: Share) -> Submission:
    data = await read_body(request, parts.limits.parsed_bytes, share)
    found = await read(parts, caller, data, _format(request), strict=_is_strict(request))
    return await prepare(parts, caller, found, request.headers.get("idempotency-key"))


async def _watched(parts: GatewayContext, submission: Submission) -> Run:
    return await parts.client.watch(
        submission.run_id,
        submission.request_id,
        submission.session_id,
        submission.hash,
        submission.warnings,
        submission.project,
    )


@router.post("/plan")
async def plan(
    request: Request, parts: WithParts, caller: Submitter, expand: bool = False, strict: StrictQuery = False
) -> Response:
    """What a request would run. Starts nothing; also answers 200 where the request is wrong."""
    async with parts.parsing.share() as share:
        data = await read_body(request, parts.limits.parsed_bytes, share)
        try:
            found = await read(parts, caller, data, _format(request), strict=strict)
        except RequestRefused as refusal:
            return answer(serializers.unreadable(refusal, len(data)))
        reading = await with_session_refusal(parts, caller, found.document, found.reading)
        if expand or reading.bytes > LARGE:
            body = await parts.parsing.large.run(serializers.plan_body, reading, expand=expand)
        else:
            body = serializers.plan_body(reading, expand=False)
    return json_answer(body)


@router.get("/runs")
async def list_(
    parts: WithParts,
    caller: Viewer,
    status: str | None = None,
    name: str | None = None,
    label: Annotated[list[str] | None, Query(description="key:value; repeatable")] = None,
    session_id: str | None = None,
    project: str | None = None,
    retry_of: str | None = None,
    since: Annotated[float | None, Query(description="Submitted at or after; seconds since the epoch")] = None,
    until: Annotated[float | None, Query(description="Submitted before; seconds since the epoch")] = None,
    full: Annotated[bool, Query(description="Return whole views, as `anabranch list --json`")] = False,
    q: Annotated[str | None, Query(max_length=300, description="A part of the name, or how an id begins")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """Recent runs, the latest first."""
    filters = Filters(status, name, tuple(label or ()), session_id, project, retry_of, since, until, q)
    shape = RunView.to_document if full else serializers.summary
    return answer(await list_runs(parts, caller, filters, limit, cursor, shape))


@router.get("/runs/{run}")
async def view(run: RunPath, parts: WithParts, caller: Viewer) -> Response:
    """How far a run is."""
    found = await view_of(parts, await find(parts, caller, run))
    alive = await with_heartbeats(parts.client.store, parts.client.names, found)
    return answer(alive.to_document() | {"waits_for": waits_for(found, parts.client.links.clock.now())})


@router.get("/runs/{run}/graph")
async def graph(run: RunPath, parts: WithParts, caller: Viewer) -> Response:
    """A run's tasks, who waits for whom, and how far each is."""
    found = await find(parts, caller, run)
    return answer(serializers.graph(found.run_id, await parts.requests.of(found), await view_of(parts, found)))


@router.get("/runs/{run}/request")
async def request_of(run: RunPath, parts: WithParts, caller: Viewer) -> Response:
    """The request of a run as it was admitted."""
    return answer(await parts.requests.document(await find(parts, caller, run)))


@router.get("/runs/{run}/result")
async def result(
    run: RunPath,
    request: Request,
    parts: WithParts,
    caller: Viewer,
    wait: Annotated[str | None, Query(description="How long to wait for the end, such as 30s")] = None,
) -> Response:
    """How a run ended, with its results; large values are references."""
    found = await find(parts, caller, run)
    if found.final is None and wait is not None:
        request_id = found.request_id or found.run_id
        handle = await parts.client.watch(found.run_id, request_id, found.session_id, None, (), found.project)
        lease = Lease(parts.guard, request, caller, project=found.project)
        response = await _waited(parts, lease, handle, _seconds(wait))
        if response is not None:
            return response
        found = await find(parts, lease.caller, run)
    return answer(await _outcome(parts, found))


@router.get("/runs/{run}/results/{key}")
async def result_value(
    run: RunPath,
    key: Annotated[str, Path(max_length=1_000)],
    parts: WithParts,
    caller: Viewer,
    from_: Annotated[int, Query(alias="from", ge=0, le=10**12)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """The value of one result key, a long list by pages."""
    found = await find(parts, caller, run)
    results = await results_of(parts.client, _final(found), found.session_id)
    return answer(await page(parts.client, results, key, found.session_id, from_, limit))


@router.post("/runs/{run}/cancel", status_code=202)
async def cancel(run: RunPath, request: Request, parts: WithParts, caller: Submitter) -> Response:
    """Cancel a run: what runs is stopped, what is there is kept."""
    return await _control(request, parts, caller, run, "cancel")


@router.post("/runs/{run}/pause", status_code=202)
async def pause(run: RunPath, request: Request, parts: WithParts, caller: Submitter) -> Response:
    """Start no further members of a run."""
    return await _control(request, parts, caller, run, "pause")


@router.post("/runs/{run}/resume", status_code=202)
async def resume(run: RunPath, request: Request, parts: WithParts, caller: Submitter) -> Response:
    """Go on with a paused run."""
    return await _control(request, parts, caller, run, "resume")


@router.post("/runs/{run}/retry", status_code=202)
async def retry(run: RunPath, request: Request, parts: WithParts, caller: Submitter) -> Response:
    """Start a run that takes over every result of one that did not complete, and runs the rest again."""
    body = await read_object(request, frozenset({"request_id"}))
    request_id = text_field(body, "request_id", 255)
    found = await find(parts, caller, run)
    started = await parts.client.retry(found.run_id, request_id=request_id)
    parts.recent.add(await taken_retry(parts, found, started))
    parts.audit.note(
        request, caller, "retry", project=found.project, run_id=started.run_id, request_id=started.request_id
    )
    document: dict[str, Any] = {
        "run_id": started.run_id,
        "request_id": started.request_id,
        "session_id": started.session_id or found.session_id,
        "project": found.project,
        "status": "accepted",
        "warnings": [],
        "links": serializers.links(started.run_id),
    }
    return answer(document, 202, {"location": f"/v1/runs/{started.run_id}"})


# --- what they share -----------------------------------------------------------------------------


def _is_strict(request: Request) -> bool:
    """Raises Refusal 422 where `strict` is neither true nor false."""
    asked = request.query_params.get("strict", "false").lower()
    if asked not in _FLAGS:
        raise Refusal(422, str(Code.SCHEMA), f"strict: {asked[:50]!r} is neither true nor false")
    return _FLAGS[asked]


def _format(request: Request) -> Format:
    return "yaml" if "yaml" in request.headers.get("content-type", "").lower() else "json"


def _wait(prefer: str | None) -> float | None:
    """Seconds that `Prefer: wait=30` asks for (RFC 7240); anything else in it is left alone."""
    match = _WAIT.search(prefer or "")
    return None if match is None else min(float(match[1]), MAX_WAITED)


def _seconds(text: str) -> float:
    try:
        return min(parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text), MAX_WAITED)
    except ValueError as error:
        raise Refusal(422, str(Code.SCHEMA), f"wait: {error}") from error


def _note(request: Request, parts: GatewayContext, caller: Caller, submission: Submission) -> None:
    parts.audit.note(
        request,
        caller,
        "submit",
        project=submission.project,
        run_id=submission.run_id,
        request_id=submission.request_id,
    )


def _accepted(submission: Submission) -> Response:
    document = {
        "run_id": submission.run_id,
        "request_id": submission.request_id,
        "session_id": submission.session_id,
        "project": submission.project,
        "status": submission.ended or "accepted",
        "warnings": list(submission.warnings),
        "links": serializers.links(submission.run_id),
    }
    return answer(document, 202, {"location": f"/v1/runs/{submission.run_id}"})


async def _waited(parts: GatewayContext, lease: Lease, run: Run, wait: float) -> Response | None:
    """The outcome, if the run ends in time.

    Raises:
        Refusal: the Agency refused the request, or the caller has lost access.
    """
    try:
        status = await lease.during(run.ended(wait))
    except TimeoutError:
        return None
    if status == "rejected":
        outcome = await run.result()
        try:
            outcome.check()
        except RequestRefused as refusal:
            raise refused(refusal) from refusal
    found = await find(parts, lease.caller, run.run_id)
    return answer(await _outcome(parts, found), headers={"preference-applied": f"wait={wait:g}"})


def _final(found: Found) -> dict[str, Any]:
    if found.final is None:
        raise Refusal(409, "run_open", f"run {found.run_id} has not ended: wait for it with ?wait=30s")
    return found.final


async def _outcome(parts: GatewayContext, found: Found) -> dict[str, Any]:
    final = _final(found)
    results = await results_of(parts.client, final, found.session_id)
    references = [key for key, value in results.items() if is_reference(value, found.session_id)]
    return serializers.outcome(final, results) | {"references": references}


async def _control(request: Request, parts: GatewayContext, caller: Caller, run: str, action: Control) -> Response:
    found = await find(parts, caller, run)
    require_open(found)
    await parts.client.control(action, run_id=found.run_id)
    parts.audit.note(request, caller, action, project=found.project, run_id=found.run_id)
    return answer({"run_id": found.run_id, "action": action}, 202)
