"""Requests and control records: validates each record, and decides whether it is submitted or refused. Pure.

The intake only validates a record and publishes it under the key of its run. The single owner of the run admits
it, so two readers of the same request id cannot race.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from anabranch.core.names import request_id_for, run_id_for
from anabranch.core.request.admission import ValidationResult, parse_request, read_request
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import SubmitRun
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.control_records import decide_control
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
    context: RequestContext, record: Incoming, document: Any, session_keys: Collection[str] = ()
) -> Decision:
    """Decide whether a request or control record is submitted, forwarded or refused.

    Args:
        document: the result of `document_of`.
        session_keys: those keys which the request depends on and does not produce that its session has.
    """
    if is_control(document):
        return decide_control(context, record, document)
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
    return Submit((_submission(context, record, result, session_keys),))


def _submission(
    context: RequestContext, record: Incoming, result: ValidationResult, session_keys: Collection[str]
) -> Outgoing:
    request = result.required()
    request_id = request.request_id or request_id_for(record.topic, record.partition, record.offset)
    run_id = run_id_for(request_id)
    document = request.to_document()
    document.pop("request_id", None)
    submit = SubmitRun(
        run_id=run_id,
        request_id=request_id,
        session_id=request.session_id or run_id,
        body_hash=body_hash(document),
        request=document,
        # Sorted: a request that is processed again has to become the same bytes.
        session_keys=tuple(sorted(session_keys)),
        warnings=result.warnings,
        origin=origin_of(record),
        traceparent=header_of(record, "traceparent"),
    )
    return Outgoing(context.names.runs, run_id, encode(submit))
