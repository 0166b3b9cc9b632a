"""Requests and control records: validates each record, and decides whether it is submitted or refused. Pure.

The intake only validates a record and publishes it under the key of its run. The single owner of the run admits
it, so two readers of the same request id cannot race.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from anabranch.core.errors import RequestRefused
from anabranch.core.json_documents import compact_size, dumps
from anabranch.core.names import REQUESTED_BY, request_id_for, run_id_for
from anabranch.core.request.admission import parse_request, read_request
from anabranch.core.request.definitions import Definition, DefinitionRequest, instance_of
from anabranch.core.request.request_hash import body_hash
from anabranch.core.request.shape import FreeFields, Shape
from anabranch.core.request.validation import is_past_deadline
from anabranch.core.wire import codec
from anabranch.core.wire.messages import DefinitionRef, SubmitRun
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.control_records import decide_control
from anabranch_agency.intake.known_shapes import Accepted
from anabranch_agency.intake.records import (
    Decision,
    RequestContext,
    Submit,
    header_of,
    is_control,
    origin_of,
    project_of,
)
from anabranch_agency.intake.refusals import refuse


def decide(
    context: RequestContext,
    record: Incoming,
    document: Any,
    session_keys: Collection[str] = (),
    shape: Shape | None = None,
) -> Decision:
    """Decide whether a request or control record is submitted, forwarded or refused.

    Args:
        document: the result of `document_of`.
        session_keys: those keys which the request depends on and does not produce that its session has.
        shape: the result of `shape_in`; None to examine the request whatever is known of its shape.
    """
    session_keys = tuple(sorted(session_keys))  # a request that is read again becomes the same bytes
    if is_control(document):
        return decide_control(context, record, document)
    if shape is not None and (submission := _known(context, record, document, session_keys, shape)) is not None:
        return Submit((submission,))
    if document is None:
        result = parse_request(record.value, limits=context.limits, agents=context.agents)
    else:
        result = read_request(
            document,
            limits=context.limits,
            agents=context.agents,
            session_keys=session_keys,
            document_bytes=len(record.value),
        )
    if result.request is None:
        return refuse(
            context,
            record,
            result.errors,
            request_id=result.request_id,
            session_id=result.session_id,
            project=project_of(document),
            warnings=result.warnings,
        )
    document = result.request.to_document()
    if shape is not None and not result.reads_context:
        context.known.keep(Accepted.of(document, result.warnings, shape), shape, session_keys)
    return Submit((_submission(context, record, document, body_hash(document), result.warnings, session_keys),))


def decide_definition(
    context: RequestContext,
    record: Incoming,
    request: DefinitionRequest,
    definition: Definition,
    session_keys: Collection[str] = (),
) -> Decision:
    """Decide whether a request that starts a definition is submitted or refused."""
    warnings: tuple[str, ...] = ()
    try:
        document = instance_of(definition, request)
        result = read_request(
            document, limits=context.limits, agents=context.agents, session_keys=tuple(sorted(session_keys))
        )
        warnings = result.warnings
        canonical = result.required().to_document()
    except RequestRefused as refused:
        return refuse(
            context,
            record,
            refused.errors,
            request_id=request.request_id,
            session_id=request.session_id,
            project=request.project,
            warnings=warnings,
        )
    # The hash of what was sent: the same record is the same request, also after another version was pushed.
    digest = body_hash(request.to_document())
    stamp = DefinitionRef(**definition.stamp)
    keys = tuple(sorted(session_keys))
    return Submit((_submission(context, record, canonical, digest, warnings, keys, stamp),))


def _known(
    context: RequestContext, record: Incoming, document: Any, session_keys: tuple[str, ...], shape: Shape
) -> Outgoing | None:
    """The submission of a request whose shape is known. None if it has to be examined, for that or because
    something outside its shape may be invalid."""
    accepted = context.known.accepted(shape, session_keys)
    if accepted is None or len(record.value) > context.limits.request_bytes or compact_size(document) is None:
        return None
    try:
        fields = FreeFields.model_validate(shape.free)
    except ValidationError:
        return None
    if fields.deadline is not None and is_past_deadline(fields.not_before, fields.deadline):
        return None
    free = fields.to_document()
    body, digest = accepted.document(free, shape), accepted.body_hash(free, shape)
    return _submission(context, record, body, digest, accepted.warnings, session_keys)


def _submission(
    context: RequestContext,
    record: Incoming,
    document: dict[str, Any],
    digest: str,
    warnings: tuple[str, ...],
    session_keys: tuple[str, ...],
    definition: DefinitionRef | None = None,
) -> Outgoing:
    """The record that submits a request to the owner of its run.

    Args:
        document: the canonical document of the request, possibly with a fragment of JSON in it.
        digest: its hash.
    """
    request_id = document.pop("request_id", None) or request_id_for(record.topic, record.partition, record.offset)
    run_id = run_id_for(request_id)
    submit = SubmitRun(
        run_id=run_id,
        request_id=request_id,
        session_id=document.get("session_id") or run_id,
        body_hash=digest,
        request={},
        session_keys=session_keys,
        warnings=warnings,
        origin=origin_of(record),
        traceparent=header_of(record, "traceparent") if record.headers else None,
        requested_by=header_of(record, REQUESTED_BY) if record.headers else None,
        definition=definition,
    )
    header = codec.header_of(submit)
    header["request"] = document
    return Outgoing(context.names.runs, run_id, dumps(header))
