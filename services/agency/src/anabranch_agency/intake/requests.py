"""What a record on the requests topic means: a run to submit, a control record, or a refusal. Pure.

Whoever reads it only validates and re-keys: admission is the business of the run's single owner, so that two
readers of one request id cannot race.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import orjson
from pydantic import ValidationError

from anabranch.core.errors import Code, Problem, RecordTooLarge, RequestRefused
from anabranch.core.json_documents import dumps, load_document
from anabranch.core.names import Names, request_id_for, run_id_for
from anabranch.core.project import DEFAULT_PROJECT, project_named
from anabranch.core.request.admission import Limits, ValidationResult, parse_request, read_request
from anabranch.core.request.envelope import is_envelope, json_pointer, unwrap
from anabranch.core.request.models import ControlRecord, ControlType
from anabranch.core.request.request_hash import body_hash
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ControlRun, SubmitRun
from anabranch.core.wire.results import RunRejected
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.dead_letter import dead_letter


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What the reader of requests knows: names, limits, and the agents where the registry is known."""

    names: Names
    limits: Limits
    agents: Collection[str] | None
    event_partitions: int


def document_of(value: bytes, limits: Limits) -> Any:
    """The JSON of a record, or None where it is none that can be read or far too large to be looked at."""
    if len(value) > limits.parsed_bytes:
        return None
    try:
        return load_document(value)
    except RequestRefused:
        return None


def is_control(document: Any) -> bool:
    """A record without `type` is a request."""
    return isinstance(document, Mapping) and "type" in document and not is_envelope(document)


def handle(
    desk: RequestContext, record: Incoming, document: Any, session_keys: Collection[str]
) -> Iterator[Outgoing]:
    """The records that a request or control record becomes.

    Args:
        document: what `document_of` gave.
        session_keys: those of its unknown keys that the session has from earlier runs.
    """
    if is_control(document):
        yield from _control(desk, record, document)
        return
    if document is None:
        reading = parse_request(record.value, limits=desk.limits, agents=desk.agents)
    else:
        reading = read_request(
            document,
            limits=desk.limits,
            agents=desk.agents,
            session_keys=session_keys,
            document_bytes=len(record.value),
        )
    if reading.request is None:
        project = _project_of(document)
        yield from _refuse(
            desk, record, reading.request_id, reading.session_id, reading.errors, reading.warnings, project
        )
    else:
        yield _submit(desk, record, reading, session_keys)


def _submit(
    desk: RequestContext, record: Incoming, reading: ValidationResult, session_keys: Collection[str]
) -> Outgoing:
    request = reading.required()
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
        session_keys=tuple(sorted(session_keys)),
        warnings=reading.warnings,
        origin=origin_of(record),
        traceparent=header_of(record, "traceparent"),
    )
    return Outgoing(desk.names.runs, run_id, encode(submit))


def origin_of(record: Incoming) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def header_of(record: Incoming, name: str) -> str | None:
    found = next((value for key, value in record.headers if key.lower() == name), None)
    return found.decode("ascii", "replace") if found is not None else None


def _refuse(
    desk: RequestContext,
    record: Incoming,
    request_id: str | None,
    session_id: str | None,
    errors: tuple[Problem, ...],
    warnings: tuple[str, ...],
    project: str | None,
) -> Iterator[Outgoing]:
    """The refusal for the sender, and the bytes as they came for the operators of the project."""
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
        f"{origin_of(record)}/rejected",
        record.timestamp,
        subject=run_id,
        traceparent=header_of(record, "traceparent"),
    )
    reason = orjson.dumps([error.to_document() for error in errors]).decode()
    yield dead_letter(desk.names, record, reason, code=str(errors[0].code), project=project)
    yield Outgoing(desk.names.results, request_id, dumps(body.to_document()), headers=headers)


def unhandled(desk: RequestContext, record: Incoming, error: Exception) -> Iterator[Outgoing]:
    """The refusal of a record that could not be handled: as a record of the log it is too large, or met a bug."""
    document = document_of(record.value, desk.limits)
    request_id = _text(document, "request_id") if isinstance(document, Mapping) else None
    if isinstance(error, RecordTooLarge):
        message = f"what this record becomes has {error.size:,} bytes, over the log's {error.limit:,}"
        problem = Problem(Code.TOO_LARGE, "", message, "make the request smaller: numbers count as written out")
    else:
        message = f"the record could not be handled: {type(error).__name__}: {error}"[:2_000]
        problem = Problem(Code.INTERNAL, "", message, "this is a fault of the agency: its log has the traceback")
    short = request_id if request_id is not None and len(request_id) <= 255 else None
    yield from _refuse(desk, record, short, None, (problem,), (), _project_of(document))


def refused_session(
    desk: RequestContext, record: Incoming, document: Mapping[str, Any], problem: Problem
) -> Iterator[Outgoing]:
    """The refusal of a request that may not have its session, named or not."""
    sent = unwrap(document)
    placed = replace(problem, path=sent.pointer((problem.path.removeprefix("/"),)))
    request_id, session_id = _text(sent.request, "request_id"), _text(sent.request, "session_id")
    yield from _refuse(desk, record, request_id, session_id, (placed,), (), _project_of(document))


def _project_of(document: Any) -> str | None:
    """The project that a refused record belongs to; None of bytes that are no JSON object and of a control record
    that names none: whoever reads the letter finds out."""
    if not isinstance(document, Mapping):
        return None
    if not is_control(document):
        return project_named(unwrap(document).request)
    return project_named(document) if document.get("project") or document["type"] not in _TYPES else None


# --- control records -----------------------------------------------------------------------------


def _control(desk: RequestContext, record: Incoming, document: Mapping[str, Any]) -> Iterator[Outgoing]:
    try:
        control = ControlRecord.model_validate(document)
    except ValidationError as error:
        problems = _control_problems(error, document)
        yield from _refuse_control(desk, record, document, problems)
        return
    run_id = _run_of(control)
    if control.type == "subscribe" and (problem := _channel_problem(desk, control)) is not None:
        yield from _refuse_control(desk, record, document, (problem,))
    elif control.type == "subscribe" or control.type == "unsubscribe":
        yield from _subscription(desk, control, run_id)
    else:
        assert run_id is not None
        yield Outgoing(desk.names.runs, run_id, encode(control_run(record, control, run_id)))


def _refuse_control(
    desk: RequestContext, record: Incoming, document: Mapping[str, Any], problems: tuple[Problem, ...]
) -> Iterator[Outgoing]:
    request_id, project = _text(document, "request_id"), _project_of(document)
    yield from _refuse(desk, record, request_id, _text(document, "session_id"), problems, (), project)


def _run_of(control: ControlRecord) -> str | None:
    return control.run_id or (run_id_for(control.request_id) if control.request_id else None)


def control_run(record: Incoming, control: ControlRecord, run_id: str) -> ControlRun:
    """A control record as the run's owner gets it; ids that it leaves out are made from its place."""
    if control.type in ("redrive", "dismiss"):
        return ControlRun(
            run_id=run_id,
            action=control.type,
            group=control.group,
            task=control.task,
            indexes=control.indexes,
            command_id=control.command_id or origin_of(record),
        )
    if control.type == "retry":
        default = request_id_for(record.topic, record.partition, record.offset)
        return ControlRun(
            run_id=run_id,
            action="retry",
            new_request_id=control.new_request_id or default,
            origin=origin_of(record),
            traceparent=header_of(record, "traceparent"),
        )
    return ControlRun(run_id=run_id, action=control.type, origin=origin_of(record))


_TYPES = get_args(ControlType)


def _control_problems(error: ValidationError, document: Mapping[str, Any]) -> tuple[Problem, ...]:
    if document.get("type") not in _TYPES:
        return (_unknown_type(document),)
    return tuple(schema_problems(error, document, json_pointer))


def _unknown_type(document: Mapping[str, Any]) -> Problem:
    return Problem(
        Code.SCHEMA,
        "/type",
        f"{document.get('type')!r} is no control record",
        f"one of {', '.join(_TYPES)}; a request has no type",
    )


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None


@dataclass(frozen=True, slots=True)
class SubscriptionScope:
    """What a subscription is to, and the project that subscribes."""

    project: str
    run_id: str | None
    session_id: str | None


def subscription_of(document: Mapping[str, Any]) -> SubscriptionScope | None:
    """What a valid record `subscribe` is to; None of any other record."""
    if document["type"] != "subscribe":
        return None
    try:
        control = ControlRecord.model_validate(document)
    except ValidationError:  # `handle` refuses it with every problem
        return None
    return SubscriptionScope(control.project or DEFAULT_PROJECT, _run_of(control), control.session_id)


def refused_subscription(desk: RequestContext, record: Incoming, subject: SubscriptionScope) -> Iterator[Outgoing]:
    """The refusal of a subscription to a run or session that the project does not have."""
    what, path = ("run", "/run_id") if subject.run_id is not None else ("session", "/session_id")
    problem = Problem(
        Code.SESSION_OF_ANOTHER_PROJECT,
        path,
        f"the project {subject.project!r} has no {what} {subject.run_id or subject.session_id!r}",
        "name the project in `project`; a session belongs to the project whose request named it first",
    )
    yield from _refuse(desk, record, None, subject.session_id, (problem,), (), subject.project)


def _channel_problem(desk: RequestContext, control: ControlRecord) -> Problem | None:
    problem = desk.names.subscriber_channel_problem(control.channel or "")
    hint = f"take a name such as {desk.names.subscriber_channels}events"
    return None if problem is None else Problem(Code.BAD_NAME, "/channel", problem, hint)


def _subscription(desk: RequestContext, control: ControlRecord, run_id: str | None) -> Iterator[Outgoing]:
    """To the event manager: a run's events have one partition, a session's may be in all."""
    document = control.to_document() | ({"run_id": run_id} if run_id else {})
    document.pop("request_id", None)
    value = dumps(document)
    if run_id is not None:
        yield Outgoing(desk.names.events, run_id, value)
        return
    for partition in range(desk.event_partitions):
        yield Outgoing(desk.names.events, control.session_id, value, partition=partition)
