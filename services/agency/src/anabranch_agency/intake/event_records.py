"""Records of published events on the requests topic: what the owner of the event's address gets. Pure."""

from __future__ import annotations

from anabranch.core.event_addresses import event_address
from anabranch.core.json_documents import dumps
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.models import ControlRecord
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import PublishEvent
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake.records import RequestContext, origin_of


def published_event(context: RequestContext, record: Incoming, control: ControlRecord) -> Outgoing:
    """The publication of an event, for the owner of its address. Without an id it gets the position of the record,
    which is the same at each redelivery."""
    project, name = control.project or DEFAULT_PROJECT, control.name or ""
    address = event_address(project, name, control.key)
    message = PublishEvent(
        run_id=address,
        event_id=control.id or origin_of(record),
        project=project,
        name=name,
        key=control.key,
        ttl=min(control.ttl, context.event_ttl),
        deliver=control.deliver,
        origin=origin_of(record),
    )
    return Outgoing(context.names.runs, address, encode(message, [dumps(control.data)]))
