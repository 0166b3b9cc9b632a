"""Control records of schedules on the requests topic. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.admission import DEFAULT_LIMITS, Limits
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.fields import Json, Project
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.schedules.addresses import schedule_address
from anabranch.core.schedules.models import Moment, Schedule, ScheduleId
from anabranch.core.schedules.moments import parse_moment
from anabranch.core.schedules.reading import read_schedule
from anabranch.core.schedules.zones import zone_of
from anabranch.core.wire.schedule_messages import ControlSchedule, ScheduleAction

_OF_THE_RECORD = frozenset({"type", "action", "by", "reason", "schedule"})


class ScheduleControl(Document):
    """A record on the requests topic that acts on a schedule."""

    type: Literal["schedule"]
    action: ScheduleAction
    id: ScheduleId
    project: Project = DEFAULT_PROJECT
    schedule: dict[str, Json] | None = None
    """Of ``put``: the schedule. Its fields may also stand beside ``type`` and ``action``."""
    from_: Moment | None = Field(default=None, alias="from")
    """Of ``backfill``: the first time whose firing is made up for."""
    to: Moment | None = None
    """Of ``backfill``: the last one; default: now."""
    overlap: Literal["buffer_all", "allow"] = "buffer_all"
    """Of ``backfill``: one run after another, or all at once."""
    by: str | None = Field(default=None, max_length=MAX_BY)
    reason: str | None = Field(default=None, max_length=MAX_REASON)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        fields = handler.resolve_ref_schema(handler(Schedule.__pydantic_core_schema__))["properties"]
        target = handler.resolve_ref_schema(schema)
        # The fields of a schedule beside those of the record: `put` has its policy under the name of that of a
        # backfill.
        either = {"anyOf": [fields["overlap"], target["properties"]["overlap"]]}
        target["properties"] = {**fields, **target["properties"], "overlap": either}
        return schema


def read_schedule_control(
    document: Mapping[str, Any],
    *,
    limits: Limits = DEFAULT_LIMITS,
    agents: Collection[str] | None = None,
) -> ScheduleControl:
    """Read a control record. The schedule of a `put` is in its canonical form.

    Raises:
        RequestRefused: with every problem.
    """
    if document.get("action") == "put":
        return _read_put(document, limits, agents)
    try:
        control = ScheduleControl.model_validate(document)
    except ValidationError as error:
        models = {"": ScheduleControl}
        raise RequestRefused(tuple(schema_problems(error, document, json_pointer, models))) from error
    if control.action == "backfill" and control.from_ is None:
        problem = Problem(Code.SCHEMA, "", "`from` is missing", "say from which time firings are made up for")
        raise RequestRefused([problem])
    if control.from_ is not None and control.to is not None:
        start, end = (parse_moment(each, zone_of("UTC")) for each in (control.from_, control.to))
        if end < start:
            raise RequestRefused([Problem(Code.SCHEMA, "/to", "`to` is before `from`", "give a later time")])
    return control


def _read_put(document: Mapping[str, Any], limits: Limits, agents: Collection[str] | None) -> ScheduleControl:
    nested = document.get("schedule")
    inline = {name: value for name, value in document.items() if name not in _OF_THE_RECORD}
    wanted = {**inline, **nested} if isinstance(nested, Mapping) else inline
    base = "/schedule" if isinstance(nested, Mapping) else ""
    try:
        schedule = read_schedule(wanted, limits=limits, agents=agents)
    except RequestRefused as refused:
        raise RequestRefused([replace(each, path=base + each.path) for each in refused.errors]) from refused
    head = {name: document[name] for name in ("type", "action", "by", "reason") if name in document}
    control = head | {"id": schedule.id, "project": schedule.project, "schedule": schedule.to_document()}
    try:
        return ScheduleControl.model_validate(control)
    except ValidationError as error:
        models = {"": ScheduleControl}
        raise RequestRefused(tuple(schema_problems(error, control, json_pointer, models))) from error


def message_of(control: ScheduleControl, origin: str) -> ControlSchedule:
    """The message for the owner of the schedule."""
    utc = zone_of("UTC")
    return ControlSchedule(
        run_id=schedule_address(control.id),
        id=control.id,
        project=control.project,
        action=control.action,
        schedule=control.schedule,
        start=0.0 if control.from_ is None else parse_moment(control.from_, utc),
        end=4e9 if control.to is None else parse_moment(control.to, utc),
        overlap=control.overlap,
        origin=origin,
        by=control.by or "",
        reason=control.reason or "",
    )
