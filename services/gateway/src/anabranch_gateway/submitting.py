"""From the bytes of a request to a record on Kafka: read once, checked against what is known, published.

The Agency admits; what can be told at once (a wrong request, a used id, a session of somebody else) is told here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.admission import Reading, read_request, session_candidates
from anabranch.core.documents import Format, load_document
from anabranch.core.envelope import unwrap
from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.fingerprint import body_hash
from anabranch.core.names import key_problem, run_id_for, session_id_problem, session_key
from anabranch.core.project import DEFAULT_PROJECT, session_conflict
from anabranch.ports import Outgoing
from anabranch.sdk.run import Run
from anabranch_gateway.auth import Caller
from anabranch_gateway.lookup import Found
from anabranch_gateway.parts import Parts
from anabranch_gateway.problems import Refusal
from anabranch_gateway.recent import Taken

LARGE_BODY = 64_000
"""Beyond, a body is parsed in a thread: the loop has others to serve."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that may be published. `is_known`: the same one was admitted before."""

    document: dict[str, Any]
    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str
    warnings: tuple[str, ...]
    is_known: bool


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


async def read(parts: Parts, document: Any, data: bytes, form: Format) -> Reading:
    """The request, judged as the Agency will, with what the session has by now."""
    keys = await _session_keys(parts, document)
    size = len(data) if form == "json" else None
    if len(data) > LARGE_BODY:
        return await asyncio.to_thread(_judge, parts, document, keys, size)
    return _judge(parts, document, keys, size)


def _judge(parts: Parts, document: Any, keys: Collection[str], size: int | None) -> Reading:
    return read_request(document, limits=parts.limits, agents=parts.agents, session_keys=keys, document_bytes=size)


async def _session_keys(parts: Parts, document: Any) -> Collection[str]:
    session_id = unwrap(document).request.get("session_id") if isinstance(document, dict) else None
    if not isinstance(session_id, str) or session_id_problem(session_id):
        return ()
    keys = sorted(session_candidates(document))
    if not keys:
        return ()
    found = await parts.client.store.get([session_key(session_id, key) for key in keys])
    return [key for key, value in zip(keys, found, strict=True) if value is not None]


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
    project = _project(caller, document)
    run_id = run_id_for(request_id)
    digest = body_hash(document)
    is_known = await _known_before(parts, run_id, document.get("session_id"), project, digest)
    session_id = document.get("session_id", run_id)
    return Submission(document, run_id, request_id, session_id, project, digest, reading.warnings, is_known)


def _checked(idempotency_key: str | None) -> str | None:
    if idempotency_key is not None and (problem := key_problem(idempotency_key)) is not None:
        raise Refusal(422, str(Code.BAD_NAME), f"the header Idempotency-Key: {problem}")
    return idempotency_key


def _project(caller: Caller, document: dict[str, Any]) -> str:
    """The request's project, which is written into it unless it is the default one."""
    project: str = document.get("project") or caller.default_project()
    if not caller.sees(project):
        raise Refusal(403, "forbidden", f"{caller.actor} may not submit to the project {project}")
    if project != DEFAULT_PROJECT:
        document["project"] = project
    return project


async def _known_before(parts: Parts, run_id: str, session_id: str | None, project: str, digest: str) -> bool:
    """Whether this very request was admitted. One round trip.

    Raises:
        RequestRefused: the id was used for another one, or the session is of another project.
    """
    names = parts.client.names
    keys = [names.tombstone(run_id), *([names.session_project(session_id)] if session_id else [])]
    tombstone, *owner = await parts.client.store.get(keys)
    if owner and owner[0] is not None and owner[0].decode() != project:
        raise RequestRefused([session_conflict(session_id or "")])
    if tombstone is not None:
        known = orjson.loads(tombstone)["hash"]
    else:
        taken = parts.recent.get(run_id)
        known = None if taken is None else taken.hash
    if known not in (None, digest):
        message = "this request id was used before, with another body"
        hint = "send the same body to get the first run's result, or take a new id"
        raise RequestRefused([Problem(Code.REQUEST_ID_CONFLICT, "/request_id", message, hint)])
    return tombstone is not None


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
