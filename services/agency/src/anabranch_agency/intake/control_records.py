"""Control records: cancel, pause, resume, retry, decisions on dead letters, and subscriptions. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from anabranch.core.errors import Code, Problem
from anabranch.core.json_documents import dumps
from anabranch.core.limit_addresses import ALL_PROJECTS, limit_address
from anabranch.core.names import request_id_for, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.models import ControlRecord
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ControlRun, SetBreaker
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.event_records import published_event
from anabranch_agency.intake.records import (
    CONTROL_TYPES,
    Control,
    Refuse,
    RequestContext,
    header_of,
    origin_of,
    project_of,
    text_of,
)
from anabranch_agency.intake.refusals import refuse
from anabranch_agency.intake.schedule_records import decide_schedule


def decide_control(context: RequestContext, record: Incoming, document: Mapping[str, Any]) -> Control | Refuse:
    """Decide whether a control record is forwarded or refused."""
    if document.get("type") == "schedule":
        return decide_schedule(context, record, document)
    try:
        control = ControlRecord.model_validate(document)
    except ValidationError as error:
        return _refuse_control(context, record, document, _control_problems(error, document))
    if control.type == "event":
        return Control((published_event(context, record, control),))
    if control.type == "breaker":
        return Control((_breaker(context, control),))
    run_id = _run_of(control)
    if control.type == "subscribe" and (problem := _channel_problem(context, control)) is not None:
        return _refuse_control(context, record, document, (problem,))
    if control.type == "subscribe" or control.type == "unsubscribe":
        return Control(tuple(_subscription(context, control, run_id)))
    assert run_id is not None
    return Control((Outgoing(context.names.runs, run_id, encode(control_run(record, control, run_id))),))


def _refuse_control(
    context: RequestContext, record: Incoming, document: Mapping[str, Any], problems: tuple[Problem, ...]
) -> Refuse:
    return refuse(
        context,
        record,
        problems,
        request_id=text_of(document, "request_id"),
        session_id=text_of(document, "session_id"),
        project=project_of(document),
    )


def _run_of(control: ControlRecord) -> str | None:
    return control.run_id or (run_id_for(control.request_id) if control.request_id else None)


def control_run(record: Incoming, control: ControlRecord, run_id: str) -> ControlRun:
    """The message for the owner of the run. Ids that the record omits are derived from its position."""
    said = {"by": control.by or "", "reason": control.reason or ""}
    if control.type in ("redrive", "dismiss"):
        return ControlRun(
            run_id=run_id,
            action=control.type,
            group=control.group,
            task=control.task,
            indexes=control.indexes,
            iteration=control.iteration,
            command_id=control.command_id or origin_of(record),
            **said,
        )
    if control.type == "signal":
        return ControlRun(
            run_id=run_id,
            action="signal",
            name=control.name or "",
            value=control.value,
            command_id=control.signal_id or origin_of(record),
            origin=origin_of(record),
        )
    if control.type == "approve":
        return ControlRun(
            run_id=run_id,
            action="approve",
            group=control.group,
            task=control.task,
            indexes=None if control.index is None else (control.index,),
            name=control.decision or "",
            value=control.data,
            reason=control.comment or control.reason or "",
            by=control.by or "",
            iteration=control.iteration,
            command_id=control.decision_id or origin_of(record),
        )
    if control.type == "retry" or control.type == "fork":
        # A record that is delivered again has the same position, and so starts the same retry and not a second
        # one.
        default = request_id_for(record.topic, record.partition, record.offset)
        return ControlRun(
            run_id=run_id,
            action=control.type,
            new_request_id=control.new_request_id or default,
            fork_from=(control.from_,) if isinstance(control.from_, str) else control.from_,
            fork_set=control.set,
            fork_request=control.request,
            origin=origin_of(record),
            traceparent=header_of(record, "traceparent"),
            **said,
        )
    # By the origin, the owner of the run drops a pause that is published again after its resume.
    return ControlRun(run_id=run_id, action=control.type, origin=origin_of(record), **said)


def _breaker(context: RequestContext, control: ControlRecord) -> Outgoing:
    """The command for the owner of an agent's breaker."""
    name = control.name or ""
    address = limit_address(ALL_PROJECTS, "breaker", name)
    message = SetBreaker(
        run_id=address,
        name=name,
        is_open=control.action == "open",
        by=control.by or "",
        reason=control.reason or "",
    )
    return Outgoing(context.names.runs, address, encode(message))


def _control_problems(error: ValidationError, document: Mapping[str, Any]) -> tuple[Problem, ...]:
    if document.get("type") not in CONTROL_TYPES:
        return (_unknown_type(document),)
    return tuple(schema_problems(error, document, json_pointer))


def _unknown_type(document: Mapping[str, Any]) -> Problem:
    return Problem(
        Code.SCHEMA,
        "/type",
        f"{document.get('type')!r} is no control record",
        f"one of {', '.join(CONTROL_TYPES)}; a request has no type",
    )


# --- subscriptions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscriptionScope:
    """The run or session of a subscription, and the project that subscribes."""

    project: str
    run_id: str | None
    session_id: str | None


def subscription_of(document: Mapping[str, Any]) -> SubscriptionScope | None:
    """The scope of a valid `subscribe` record; None for any other record."""
    if document["type"] != "subscribe":
        return None
    try:
        control = ControlRecord.model_validate(document)
    except ValidationError:  # `decide_control` refuses it, with every problem
        return None
    return SubscriptionScope(control.project or DEFAULT_PROJECT, _run_of(control), control.session_id)


def refuse_subscription(context: RequestContext, record: Incoming, scope: SubscriptionScope) -> Refuse:
    """The refusal of a subscription to a run or session of another project."""
    what, path = ("run", "/run_id") if scope.run_id is not None else ("session", "/session_id")
    problem = Problem(
        Code.SESSION_OF_ANOTHER_PROJECT,
        path,
        f"the project {scope.project!r} has no {what} {scope.run_id or scope.session_id!r}",
        "name the project in `project`; a session belongs to the project whose request named it first",
    )
    return refuse(context, record, (problem,), request_id=None, session_id=scope.session_id, project=scope.project)


def _channel_problem(context: RequestContext, control: ControlRecord) -> Problem | None:
    problem = context.names.subscriber_channel_problem(control.channel or "")
    hint = f"take a name such as {context.names.subscriber_channels}events"
    return None if problem is None else Problem(Code.BAD_NAME, "/channel", problem, hint)


def _subscription(context: RequestContext, control: ControlRecord, run_id: str | None) -> Iterator[Outgoing]:
    """Records for the event manager: the events of a run have one partition, those of a session may have all."""
    document = control.to_document() | ({"run_id": run_id} if run_id else {})
    document.pop("request_id", None)
    value = dumps(document)
    if run_id is not None:
        yield Outgoing(context.names.events, run_id, value)
        return
    for partition in range(context.event_partitions):
        yield Outgoing(context.names.events, control.session_id, value, partition=partition)
