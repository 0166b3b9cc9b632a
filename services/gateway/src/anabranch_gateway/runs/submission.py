"""From the bytes of a request to a record on Kafka: read once, checked against what is known, published.

The Agency admits; what can be told at once (a wrong request, a used id, a session of somebody else) is told here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import orjson

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import Format, load_document
from anabranch.core.names import key_problem, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.admission import ValidationResult, read_request, session_candidates
from anabranch.core.request.envelope import unwrap
from anabranch.core.request.request_hash import body_hash, has_other_body, request_id_conflict
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.reading.run_records import existing_session_keys
from anabranch.sdk.client import had_ended
from anabranch.sdk.run import Run
from anabranch_gateway.access.auth import Caller
from anabranch_gateway.access.ownership import SessionClaim, project_for, session_refusal
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http.parsing import LARGE
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.runs.lookup import Found
from anabranch_gateway.runs.pending import PendingRun

YAML_WEIGHT = 20
"""Parsing a byte of YAML takes at least as long as this many bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid request. `is_known`: the same request was admitted before; `ended`: its final status."""

    document: dict[str, Any]
    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str
    warnings: tuple[str, ...]
    is_known: bool
    ended: str | None = None

    def published(self) -> Submission:
        """The same without the document, so that a call waiting for the run's end does not keep it in memory."""
        return replace(self, document={})


@dataclass(frozen=True, slots=True)
class Read:
    """A parsed and validated body. `sent` is its request as it would be published; None if it is refused."""

    document: Any
    reading: ValidationResult
    sent: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Options of the validation: the document's size as sent, if it counts, and strictness."""

    size: int | None
    strict: bool


async def read(parts: GatewayContext, caller: Caller, data: bytes, form: Format, *, strict: bool = False) -> Read:
    """Validate the request as the Agency will, with the keys that the session has now, if the caller may use the
    session.

    `strict` also refuses placeholders without a value.

    Raises:
        RequestRefused: the body is neither valid JSON nor valid YAML.
        Refusal: 503, too many other bodies are in work.
    """
    if form == "yaml" and len(data) > parts.limits.request_bytes:
        message = f"the request has {len(data):,} bytes, over the limit of {parts.limits.request_bytes:,}"
        raise RequestRefused([Problem(Code.TOO_LARGE, "", message, "split the request")])
    terms = Terms(len(data) if form == "json" else None, strict)
    lane = parts.parsing.lane(len(data) if form == "json" else len(data) * YAML_WEIGHT)
    document, asked, found = await lane.run(_parsed, parts, data, form, terms)
    if found is None:
        keys = await _session_keys(parts, caller, document, asked)
        found = await lane.run(_judged, parts, document, keys, terms)
    return found


def _parsed(
    parts: GatewayContext, data: bytes, form: Format, terms: Terms
) -> tuple[Any, Collection[str], Read | None]:
    """Runs in a thread: parse the document, and validate it unless the session's keys have to be read first."""
    document = load_document(data, form)
    asked = sorted(session_candidates(document)) if _names_session(document) else ()
    return document, asked, None if asked else _judged(parts, document, (), terms)


def _judged(parts: GatewayContext, document: Any, keys: Collection[str], terms: Terms) -> Read:
    """Runs in a thread."""
    reading = read_request(
        document,
        limits=parts.limits,
        agents=parts.agents,
        session_keys=keys,
        document_bytes=terms.size,
        strict=terms.strict,
    )
    return Read(document, reading, None if reading.request is None else reading.request.to_document())


def _names_session(document: Any) -> bool:
    return isinstance(document, dict) and unwrap(document).request.get("session_id") is not None


async def _session_keys(
    parts: GatewayContext, caller: Caller, document: Any, keys: Collection[str]
) -> Collection[str]:
    """The given keys that the session has; empty for a session that the request cannot use."""
    request, client = unwrap(document).request, parts.client
    session_id, project = request.get("session_id"), project_for(caller, request)
    return await existing_session_keys(client.store, client.names, session_id, project, keys)


async def with_session_refusal(
    parts: GatewayContext, caller: Caller, document: Any, reading: ValidationResult
) -> ValidationResult:
    """The validation result, refused if the request cannot use its session.

    Raises:
        Refusal: 403, the project is not the caller's.
        ServerUnavailable: the store does not answer.
    """
    sent = unwrap(document if isinstance(document, dict) else {})
    project, client = project_for(caller, sent.request), parts.client
    problem = await session_refusal(client.store, client.names, sent.request, project)
    if problem is None:
        return reading
    placed = replace(problem, path=sent.pointer((problem.path.removeprefix("/"),)))
    return replace(reading, request=None, plan=None, errors=(placed, *reading.errors))


async def prepare(parts: GatewayContext, caller: Caller, found: Read, idempotency_key: str | None) -> Submission:
    """What would be published.

    Raises:
        RequestRefused: with every error; also where the request id was used for something else.
        Refusal: 403, the project is not the caller's.
        ServerUnavailable: the store does not answer.
    """
    found.reading.required()
    document = found.sent or {}
    request_id = document.get("request_id") or _checked(idempotency_key) or parts.client.links.ids.run_scoped()
    document["request_id"] = request_id
    project = project_for(caller, document)
    if project != DEFAULT_PROJECT:
        document["project"] = project
    run_id = run_id_for(request_id)
    is_large = found.reading.bytes > LARGE
    digest = await parts.parsing.large.run(body_hash, document) if is_large else body_hash(document)
    known = await _known_before(parts, run_id, document, project, digest)
    final = None if known is None else known.final
    warnings, ended = found.reading.warnings, None
    if final is not None:
        warnings, ended = (*warnings, *had_ended(request_id, final)), str(final["status"])
    session_id = document.get("session_id", run_id)
    return Submission(
        document, run_id, request_id, session_id, project, digest, warnings, known is not None, ended
    )


def _checked(idempotency_key: str | None) -> str | None:
    if idempotency_key is not None and (problem := key_problem(idempotency_key)) is not None:
        raise Refusal(422, str(Code.BAD_NAME), f"the header Idempotency-Key: {problem}")
    return idempotency_key


async def _known_before(
    parts: GatewayContext, run_id: str, document: dict[str, Any], project: str, digest: str
) -> RunRecord | None:
    """The record of the run, if this request was admitted before. Takes one round trip.

    Raises:
        RequestRefused: the id was used for another request, or the session belongs to another project.
    """
    names = parts.client.names
    claim = SessionClaim.of(document)
    keys = [names.tombstone(run_id), *(claim.keys(names) if claim is not None else ())]
    tombstone, *owner = await parts.client.store.get(keys)
    if claim is not None and (problem := claim.problem(project, owner)) is not None:
        raise RequestRefused([problem])
    admitted = None if tombstone is None else RunRecord.decode(tombstone)
    if admitted is not None:
        known = admitted.body_hash
    else:
        taken = parts.recent.get(run_id)
        known = None if taken is None else taken.hash
    if has_other_body(known, digest):
        raise RequestRefused([request_id_conflict()])
    return admitted


async def taken_retry(parts: GatewayContext, found: Found, started: Run) -> PendingRun:
    """A retry that was just asked for, as it is known until the Agency has admitted it."""
    partition = await parts.live.partition_of(started.run_id)
    return PendingRun(
        run_id=started.run_id,
        request_id=started.request_id or "",
        session_id=found.session_id,
        project=found.project,
        hash=None,
        name=None,
        at=parts.client.links.clock.now(),
        events_from=0 if started.heard else parts.live.position(partition),
    )


async def publish(parts: GatewayContext, submission: Submission, traceparent: str | None) -> None:
    """Returns once Kafka has acknowledged the record; a request that is known is not sent again.

    Raises:
        ServerUnavailable: Kafka does not take it.
    """
    if submission.is_known:
        return
    partition = await parts.live.partition_of(submission.run_id)
    events_from = parts.live.position(partition)
    headers = {"content-type": b"application/json"}
    if traceparent is not None:
        headers["traceparent"] = traceparent.encode()
    names, value = parts.client.names, orjson.dumps(submission.document)
    await parts.client.log.publish([Outgoing(names.requests, submission.request_id, value, headers)])
    parts.recent.add(
        PendingRun(
            submission.run_id,
            submission.request_id,
            submission.session_id,
            submission.project,
            submission.hash,
            submission.document.get("name"),
            parts.client.links.clock.now(),
            events_from,
        )
    )
