"""From the bytes of a request to a record on Kafka: read once, checked against what is known, published.

The Agency admits; what can be told at once (a wrong request, a used id, a session of somebody else) is told here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import orjson

from anabranch.core.admission import Reading, read_request, session_candidates
from anabranch.core.documents import Format, load_document
from anabranch.core.envelope import unwrap
from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.fingerprint import body_hash
from anabranch.core.names import key_problem, run_id_for, session_key
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.ports import Outgoing
from anabranch.sdk.client import had_ended
from anabranch.sdk.run import Run
from anabranch_gateway.auth import Caller
from anabranch_gateway.lookup import Found
from anabranch_gateway.ownership import SessionClaim, project_for, session_refusal
from anabranch_gateway.parts import Parts
from anabranch_gateway.problems import Refusal
from anabranch_gateway.recent import Taken

LARGE_BODY = 64_000
"""Beyond, a body is parsed in a thread: the loop has others to serve."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that may be published. `is_known`: the same one was admitted before; `ended`: how it ended."""

    document: dict[str, Any]
    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str
    warnings: tuple[str, ...]
    is_known: bool
    ended: str | None = None


async def load(parts: Parts, data: bytes, form: Format) -> Any:
    """The document in a body.

    Raises:
        RequestRefused: it is none.
    """
    if form == "yaml" and len(data) > parts.limits.request_bytes:
        message = f"the request has {len(data):,} bytes, over the limit of {parts.limits.request_bytes:,}"
        raise RequestRefused([Problem(Code.TOO_LARGE, "", message, "split the request")])
    if len(data) > LARGE_BODY:
        return await asyncio.to_thread(load_document, data, form)
    return load_document(data, form)


async def read(
    parts: Parts, caller: Caller, document: Any, data: bytes, form: Format, *, strict: bool = False
) -> Reading:
    """The request, judged as the Agency will, with what the session has by now, if it may be the caller's.

    `strict` refuses placeholders that nothing provides, too.
    """
    keys = await _session_keys(parts, caller, document)
    size = len(data) if form == "json" else None
    if len(data) > LARGE_BODY:
        return await asyncio.to_thread(_judge, parts, document, keys, size, strict)
    return _judge(parts, document, keys, size, strict)


def _judge(parts: Parts, document: Any, keys: Collection[str], size: int | None, strict: bool) -> Reading:
    return read_request(
        document,
        limits=parts.limits,
        agents=parts.agents,
        session_keys=keys,
        document_bytes=size,
        strict=strict,
    )


async def _session_keys(parts: Parts, caller: Caller, document: Any) -> Collection[str]:
    """The keys that the session has. Of a session that the request cannot have it is not told which it has."""
    request = unwrap(document).request if isinstance(document, dict) else {}
    claim, keys = SessionClaim.of(request), sorted(session_candidates(document))
    if not keys or claim is None or request.get("session_id") is None:
        return ()
    stored = [session_key(claim.session_id, key) for key in keys]
    run, project, *found = await parts.client.store.get([*claim.keys(parts.client.names), *stored])
    if claim.problem(project_for(caller, request), (run, project)) is not None:
        return ()
    return [key for key, value in zip(keys, found, strict=True) if value is not None]


async def with_session_refusal(parts: Parts, caller: Caller, document: Any, reading: Reading) -> Reading:
    """A reading that is also refused where the request cannot have its session.

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


async def prepare(parts: Parts, caller: Caller, reading: Reading, idempotency_key: str | None) -> Submission:
    """What would be published.

    Raises:
        RequestRefused: with every error; also where the request id was used for something else.
        Refusal: 403, the project is not the caller's.
        ServerUnavailable: the store does not answer.
    """
    request = reading.required()
    document = request.to_document()
    request_id = document.get("request_id") or _checked(idempotency_key) or parts.client.links.ids.run_scoped()
    document["request_id"] = request_id
    project = project_for(caller, document)
    if project != DEFAULT_PROJECT:
        document["project"] = project
    run_id = run_id_for(request_id)
    digest = body_hash(document)
    known = await _known_before(parts, run_id, document, project, digest)
    final = None if known is None else known["final"]
    warnings, ended = reading.warnings, None
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
    parts: Parts, run_id: str, document: dict[str, Any], project: str, digest: str
) -> dict[str, Any] | None:
    """What is known of this very request, where it was admitted. One round trip.

    Raises:
        RequestRefused: the id was used for another one, or the session is of another project.
    """
    names = parts.client.names
    claim = SessionClaim.of(document)
    keys = [names.tombstone(run_id), *(claim.keys(names) if claim is not None else ())]
    tombstone, *owner = await parts.client.store.get(keys)
    if claim is not None and (problem := claim.problem(project, owner)) is not None:
        raise RequestRefused([problem])
    admitted: dict[str, Any] | None = None if tombstone is None else orjson.loads(tombstone)
    if admitted is not None:
        known = admitted["hash"]
    else:
        taken = parts.recent.get(run_id)
        known = None if taken is None else taken.hash
    if known not in (None, digest):
        message = "this request id was used before, with another body"
        hint = "send the same body to get the first run's result, or take a new id"
        raise RequestRefused([Problem(Code.REQUEST_ID_CONFLICT, "/request_id", message, hint)])
    return admitted


async def taken_retry(parts: Parts, found: Found, started: Run) -> Taken:
    """A retry that was just asked for, as it is known until the Agency has admitted it."""
    partition = await parts.live.partition_of(started.run_id)
    return Taken(
        run_id=started.run_id,
        request_id=started.request_id or "",
        session_id=found.session_id,
        project=found.project,
        hash=None,
        name=None,
        at=parts.client.links.clock.now(),
        events_from=0 if started.heard else parts.live.position(partition),
    )


async def publish(parts: Parts, submission: Submission, traceparent: str | None) -> None:
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
        Taken(
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
