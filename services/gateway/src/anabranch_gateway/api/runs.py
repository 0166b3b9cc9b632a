"""Routes: submit, plan, list, inspect and control runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import ValidationError

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Code, RequestRefused
from anabranch.core.json_documents import Format
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.forking import fork_document, fork_points
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.run_filter import RunFilter
from anabranch.core.waiting import waits_for
from anabranch.core.wire.results import is_reference
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.views import with_heartbeats
from anabranch.sdk.client import Control
from anabranch.sdk.run import Run
from anabranch_gateway.access.callers import Caller, Submitter, Viewer, authorize
from anabranch_gateway.access.leases import Lease
from anabranch_gateway.api import serializers
from anabranch_gateway.api.models import ForkBody
from anabranch_gateway.api.parameters import RunPath
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.parsing import SMALL_BODY_BYTES, BodyReservation
from anabranch_gateway.http.problems import Refusal, request_refusal
from anabranch_gateway.http.request_body import read_any_object, read_body, read_object, text_field
from anabranch_gateway.http.responses import encoded_response, json_response
from anabranch_gateway.runs.graph import add_executors, graph_of
from anabranch_gateway.runs.lookup import FoundRun, require_open
from anabranch_gateway.runs.query import condition_of, list_runs
from anabranch_gateway.runs.results import load_results, result_page
from anabranch_gateway.runs.submission import Submission

router = APIRouter(prefix="/v1", tags=["runs"])

MAX_WAIT_SECONDS = 300.0
StrictQuery = Annotated[bool, Query(description="Refuse placeholders that have no value")]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])")


async def _submit_headers(
    idempotency_key: Annotated[str | None, Header()] = None,
    prefer: Annotated[str | None, Header()] = None,
    traceparent: Annotated[str | None, Header()] = None,
    strict: StrictQuery = False,
) -> None:
    """Describes the headers for OpenAPI only: `submit` reads them itself, see `submit_fast_path`."""


@router.post("/runs", status_code=202, dependencies=[Depends(_submit_headers)])
async def submit(request: Request) -> Response:
    """Submit a request. It runs once for each request id, however often it is sent."""
    context: GatewayContext = request.app.state.context
    # By hand instead of by a dependency, which the fast path does not resolve.
    caller = await authorize(request, "submitter")
    trace = request.headers.get("traceparent")
    # A malformed traceparent is ignored and must not refuse the request (W3C Trace Context).
    if trace is not None and _TRACEPARENT.fullmatch(trace) is None:
        trace = None
    wait, run = _wait(request.headers.get("prefer")), None
    async with context.parsing.reservation() as reservation:
        submission = await _submission(request, context, caller, reservation)
        if wait is not None:
            # Before the request is published, so that the end of a short run is not missed.
            run = await _watch(context, submission)
        await context.submitter.publish(submission, trace, caller.actor)
        # The call may wait for minutes: neither its document nor its reserved memory is held meanwhile.
        submission = submission.without_document()
    _audit_submit(request, context, caller, submission)
    if wait is None or run is None:
        return _accepted(submission)
    lease = Lease(context.authenticator, request, caller, "submitter", submission.project)
    return await _waited(context, lease, run, wait) or _accepted(submission)


async def _submission(
    request: Request, context: GatewayContext, caller: Caller, reservation: BodyReservation
) -> Submission:
    data = await read_body(request, context.limits.parsed_bytes, reservation)
    parsed = await context.submitter.parse(caller, data, _format(request), strict=_is_strict(request))
    return await context.submitter.prepare(caller, parsed, request.headers.get("idempotency-key"))


async def _watch(context: GatewayContext, submission: Submission) -> Run:
    return await context.client.watch(
        submission.run_id,
        submission.request_id,
        submission.session_id,
        submission.hash,
        submission.warnings,
        submission.project,
    )


@router.post("/plan")
async def plan(
    request: Request, context: WithContext, caller: Submitter, expand: bool = False, strict: StrictQuery = False
) -> Response:
    """The plan of a request, which is not run. The response is 200 for an invalid request too."""
    async with context.parsing.reservation() as reservation:
        data = await read_body(request, context.limits.parsed_bytes, reservation)
        try:
            parsed = await context.submitter.parse(caller, data, _format(request), strict=strict)
        except RequestRefused as refusal:
            return json_response(serializers.unparsable_plan(refusal, len(data)))
        validation = await context.submitter.check_session(caller, parsed)
        if expand or validation.bytes > SMALL_BODY_BYTES:
            body = await context.parsing.large.run(serializers.plan_body, validation, expand=expand)
        else:
            body = serializers.plan_body(validation, expand=False)
    return encoded_response(body)


@router.get("/runs")
async def list_(
    context: WithContext,
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
    q: Annotated[
        str | None, Query(max_length=300, description="A part of the name, or the beginning of an id")
    ] = None,
    filter: Annotated[
        str | None, Query(max_length=10_000, description="A condition over fields of runs, as text or as JSON")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """Runs, the latest first: those of the history if there is one, else recent ones."""
    condition = None if filter is None else condition_of(filter)
    fields = (status, name, tuple(label or ()), session_id, project, retry_of, since, until, q)
    wanted = RunFilter(*fields, condition=condition)
    now = context.client.links.clock.now()
    found = await list_runs(context.run_index, caller, wanted, limit, cursor)
    document = RunView.to_document if full else serializers.summary
    runs = [document(view) | {"waits_for": waits_for(view, now)} for view in found.views]
    as_of = now if found.as_of is None else found.as_of
    return json_response({"runs": runs, "next_cursor": found.next_cursor, "as_of": as_of})


@router.get("/runs/{run}")
async def view(run: RunPath, context: WithContext, caller: Viewer) -> Response:
    """The view of a run: its status and progress."""
    found = await context.lookup.view(await context.lookup.find(caller, run))
    alive = await with_heartbeats(context.client.store, context.client.names, found)
    return json_response(alive.to_document() | {"waits_for": waits_for(found, context.client.links.clock.now())})


@router.get("/runs/{run}/graph")
async def graph(run: RunPath, context: WithContext, caller: Viewer) -> Response:
    """The tasks of a run as a graph of their dependencies, with the progress of each."""
    found = await context.lookup.find(caller, run)
    admitted, view = await context.requests.get(found), await context.lookup.view(found)
    document = graph_of(found.run_id, admitted, view)
    return json_response(add_executors(document, await context.client.agents()))


@router.get("/runs/{run}/request")
async def request_of(run: RunPath, context: WithContext, caller: Viewer) -> Response:
    """The request of a run as it was admitted."""
    return json_response(await context.requests.document(await context.lookup.find(caller, run)))


@router.get("/runs/{run}/result")
async def result(
    run: RunPath,
    request: Request,
    context: WithContext,
    caller: Viewer,
    wait: Annotated[str | None, Query(description="How long to wait for the end, such as 30s")] = None,
) -> Response:
    """The outcome of a run with its results; large values are references."""
    found = await context.lookup.find(caller, run)
    if found.final is None and wait is not None:
        request_id = found.request_id or found.run_id
        handle = await context.client.watch(found.run_id, request_id, found.session_id, None, (), found.project)
        lease = Lease(context.authenticator, request, caller, project=found.project)
        response = await _waited(context, lease, handle, _seconds(wait))
        if response is not None:
            return response
        found = await context.lookup.find(lease.caller, run)
    return json_response(await _outcome(context, found))


@router.get("/runs/{run}/results/{key}")
async def result_value(
    run: RunPath,
    key: Annotated[str, Path(max_length=1_000)],
    context: WithContext,
    caller: Viewer,
    from_: Annotated[int, Query(alias="from", ge=0, le=10**12)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """The value of one result key; a long list in pages."""
    found = await context.lookup.find(caller, run)
    results = await load_results(context.client, _final(found), found.session_id)
    return json_response(await result_page(context.client, results, key, found.session_id, from_, limit))


@router.post("/runs/{run}/cancel", status_code=202)
async def cancel(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Cancel a run: running members are stopped, partial results are kept."""
    return await _control(request, context, caller, run, "cancel")


@router.post("/runs/{run}/terminate", status_code=202)
async def terminate(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Cancel a run without what it does after a cancellation."""
    return await _control(request, context, caller, run, "terminate")


@router.post("/runs/{run}/pause", status_code=202)
async def pause(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Pause a run: no further member starts."""
    return await _control(request, context, caller, run, "pause")


@router.post("/runs/{run}/resume", status_code=202)
async def resume(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Resume a paused run."""
    return await _control(request, context, caller, run, "resume")


@router.post("/runs/{run}/retry", status_code=202)
async def retry(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Start a run that imports all results of one that did not complete, and runs the rest again."""
    body = await read_object(request, context.parsing, frozenset({"request_id", "by", "reason"}))
    request_id, reason = text_field(body, "request_id", 255), text_field(body, "reason", MAX_REASON)
    by = caller.acting_as(text_field(body, "by", MAX_BY))
    found = await context.lookup.find(caller, run)
    started = await context.client.retry(found.run_id, request_id=request_id, by=by, reason=reason)
    return await _started_again(request, context, caller, found, started, "retry")


@router.post("/runs/{run}/fork", status_code=202)
async def fork(run: RunPath, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Start a run that takes over what an ended one has, except what depends on a change."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    try:
        wanted = ForkBody.model_validate(body)
    except ValidationError as error:
        raise RequestRefused(tuple(schema_problems(error, body, json_pointer))) from error
    found = await context.lookup.find(caller, run)
    tasks = [wanted.from_] if isinstance(wanted.from_, str) else wanted.from_
    by = caller.acting_as(wanted.by)
    # The Agency checks the same, but after the response.
    await _check_fork(context, caller, found, wanted, tasks)
    started = await context.client.fork(
        found.run_id,
        tasks=tasks,
        values=wanted.set,
        request=wanted.request,
        request_id=wanted.request_id,
        by=by,
        reason=wanted.reason,
    )
    return await _started_again(request, context, caller, found, started, "fork")


async def _check_fork(
    context: GatewayContext, caller: Caller, found: FoundRun, wanted: ForkBody, tasks: Sequence[str]
) -> None:
    """Raises RequestRefused for a fork whose request is invalid or lacks a named task."""
    if found.final is None:
        return  # the client says that the run is still open
    admitted = await context.requests.document(found)
    document = fork_document(admitted, found.session_id, wanted.request, wanted.set)
    parsed = await context.submitter.parse(caller, orjson.dumps(document), "json")
    parsed.validation.required()
    assert parsed.validation.plan is not None
    fork_points({(task.group, task.name) for task in parsed.validation.plan.tasks}, tasks)


async def _started_again(
    request: Request, context: GatewayContext, caller: Caller, found: FoundRun, started: Run, action: str
) -> Response:
    await context.submitter.add_retry(found, started)
    context.audit.record(
        request, caller, action, project=found.project, run_id=started.run_id, request_id=started.request_id
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
    return json_response(document, 202, {"location": f"/v1/runs/{started.run_id}"})


# --- helpers -------------------------------------------------------------------------------------


def _is_strict(request: Request) -> bool:
    """The query parameter `strict`. Raises Refusal 422 if it is not a boolean."""
    asked = request.query_params.get("strict", "false").lower()
    if asked not in _FLAGS:
        raise Refusal(422, str(Code.SCHEMA), f"strict: {asked[:50]!r} must be true or false")
    return _FLAGS[asked]


def _format(request: Request) -> Format:
    return "yaml" if "yaml" in request.headers.get("content-type", "").lower() else "json"


def _wait(prefer: str | None) -> float | None:
    """The seconds of `Prefer: wait=30` (RFC 7240); other preferences are ignored."""
    match = _WAIT.search(prefer or "")
    return None if match is None else min(float(match[1]), MAX_WAIT_SECONDS)


def _seconds(text: str) -> float:
    try:
        return min(parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text), MAX_WAIT_SECONDS)
    except ValueError as error:
        raise Refusal(422, str(Code.SCHEMA), f"wait: {error}") from error


def _audit_submit(request: Request, context: GatewayContext, caller: Caller, submission: Submission) -> None:
    context.audit.record(
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
    return json_response(document, 202, {"location": f"/v1/runs/{submission.run_id}"})


async def _waited(context: GatewayContext, lease: Lease, run: Run, wait: float) -> Response | None:
    """The outcome, if the run ends in time.

    Raises:
        Refusal: the Agency refused the request, or the caller has lost access.
    """
    try:
        status = await lease.during(run.ended(wait))
    except TimeoutError:
        return None
    # The Agency may refuse what this gateway accepted, such as a request id that was admitted elsewhere
    # meanwhile.
    if status == "rejected":
        outcome = await run.result()
        try:
            outcome.check()
        except RequestRefused as refusal:
            raise request_refusal(refusal) from refusal
    found = await context.lookup.find(lease.caller, run.run_id)
    return json_response(await _outcome(context, found), headers={"preference-applied": f"wait={wait:g}"})


def _final(found: FoundRun) -> dict[str, Any]:
    if found.final is None:
        raise Refusal(409, "run_open", f"run {found.run_id} has not ended: wait for its end with ?wait=30s")
    return found.final


async def _outcome(context: GatewayContext, found: FoundRun) -> dict[str, Any]:
    final = _final(found)
    results = await load_results(context.client, final, found.session_id)
    references = [key for key, value in results.items() if is_reference(value, found.session_id)]
    return serializers.outcome(final, results) | {"references": references}


async def _control(
    request: Request, context: GatewayContext, caller: Caller, run: str, action: Control
) -> Response:
    body = await read_object(request, context.parsing, frozenset({"by", "reason"}))
    by = caller.acting_as(text_field(body, "by", MAX_BY))
    reason = text_field(body, "reason", MAX_REASON)
    found = await context.lookup.find(caller, run)
    require_open(found)
    await context.client.control(action, run_id=found.run_id, by=by, reason=reason)
    context.audit.record(request, caller, action, project=found.project, run_id=found.run_id, detail=reason)
    return json_response({"run_id": found.run_id, "action": action}, 202)
