"""Refusals of records on the requests topic, for the sender and for the operators of the project. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from anabranch.core.errors import Code, Problem, RecordTooLarge
from anabranch.core.json_documents import dumps
from anabranch.core.names import run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.envelope import unwrap
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.results import RunRejected
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch_agency.intake.records import (
    Refuse,
    RequestContext,
    document_of,
    header_of,
    origin_of,
    project_of,
    text_of,
)

MAX_MESSAGE = 2_000
"""Characters of an internal error that a refusal quotes."""
MAX_REQUEST_ID = 255


def refuse(
    context: RequestContext,
    record: Incoming,
    errors: tuple[Problem, ...],
    *,
    request_id: str | None,
    session_id: str | None,
    project: str | None,
    warnings: tuple[str, ...] = (),
) -> Refuse:
    """The refusal for the sender, and a dead letter with the original bytes for the operators of the project."""
    run_id = run_id_for(request_id) if request_id is not None else None
    body = RunRejected(
        request_id=request_id,
        run_id=run_id,
        session_id=session_id,
        project=project or DEFAULT_PROJECT,
        errors=errors,
        warnings=warnings,
    )
    headers = cloud_event_headers(
        "run.rejected",
        # The id is the position of the record, so the refusal is recognized when the record is processed again.
        f"{origin_of(record)}/rejected",
        record.timestamp,
        subject=run_id,
        traceparent=header_of(record, "traceparent"),
    )
    reason = orjson.dumps([error.to_document() for error in errors]).decode()
    letter = dead_letter(context.names, record, reason, code=str(errors[0].code), project=project)
    answer = Outgoing(context.names.results, request_id, dumps(body.to_document()), headers=headers)
    return Refuse((letter, answer))


def refuse_unprocessable(context: RequestContext, record: Incoming, error: Exception) -> Refuse:
    """The refusal of a record whose processing failed: its message is too large for the log, or a bug was hit."""
    document = document_of(record.value, context.limits)
    request_id = text_of(document, "request_id") if isinstance(document, Mapping) else None
    if isinstance(error, RecordTooLarge):
        message = f"the message for the owner of the run has {error.size:,} bytes, the log allows {error.limit:,}"
        problem = Problem(Code.TOO_LARGE, "", message, "make the request smaller: numbers count as written out")
    else:
        message = f"the record could not be processed: {type(error).__name__}: {error}"[:MAX_MESSAGE]
        problem = Problem(Code.INTERNAL, "", message, "this is a fault of the agency: its log has the traceback")
    # The record may have failed before its id was validated, and the id becomes a key and a header of the
    # refusal.
    short = request_id if request_id is not None and len(request_id) <= MAX_REQUEST_ID else None
    return refuse(context, record, (problem,), request_id=short, session_id=None, project=project_of(document))


def refuse_session(
    context: RequestContext, record: Incoming, document: Mapping[str, Any], problem: Problem
) -> Refuse:
    """The refusal of a request that must not use the session that it names, or the one of its own run id."""
    sent = unwrap(document)
    # The request may be in an envelope: the sender gets the path within the record that was sent.
    placed = replace(problem, path=sent.pointer((problem.path.removeprefix("/"),)))
    return refuse(
        context,
        record,
        (placed,),
        request_id=text_of(sent.request, "request_id"),
        session_id=text_of(sent.request, "session_id"),
        project=project_of(document),
    )
