"""Control records of schedules: read, and passed on to the owner of the schedule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.errors import RequestRefused
from anabranch.core.schedules.control import message_of, read_schedule_control
from anabranch.core.wire.codec import encode
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.records import Control, Refuse, RequestContext, origin_of, project_of
from anabranch_agency.intake.refusals import refuse


def decide_schedule(context: RequestContext, record: Incoming, document: Mapping[str, Any]) -> Control | Refuse:
    """Decide whether a control record of a schedule is forwarded or refused."""
    try:
        control = read_schedule_control(document, limits=context.limits, agents=context.agents)
    except RequestRefused as refused:
        project = project_of(document)
        return refuse(context, record, refused.errors, request_id=None, session_id=None, project=project)
    message = message_of(control, origin_of(record))
    return Control((Outgoing(context.names.runs, message.run_id, encode(message)),))
