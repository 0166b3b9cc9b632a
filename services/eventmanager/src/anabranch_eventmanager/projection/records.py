"""Decodes the records of the events topic: batches of events, and subscriptions.

A subscription to a run has the run's key. A subscription to a session is published once to every partition,
because the runs of a session may be in all of them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anabranch.core.names import run_id_for
from anabranch.core.wire.codec import Undecodable
from anabranch.core.wire.events import EventBatch


class _Subscription(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    project: str | None = None
    """The subscribing project; None is the default project, also in records from before projects existed."""

    def run(self) -> str | None:
        """The id of the run; None for a subscription to a session."""
        if self.run_id is None and self.request_id is not None:
            return run_id_for(self.request_id)
        return self.run_id


class Subscribe(_Subscription):
    """Forward events of a run, or of a session's runs, to `channel`; replaces an earlier filter of the channel."""

    type: Literal["subscribe"]
    channel: str
    types: tuple[str, ...] = ()
    """Event types, `run.*` for all of a kind; empty for every type."""


class Unsubscribe(_Subscription):
    """Stop forwarding to `channel`; to all channels if it is None."""

    type: Literal["unsubscribe"]
    channel: str | None = None


EventRecord = EventBatch | Subscribe | Unsubscribe

_RECORDS: TypeAdapter[EventRecord] = TypeAdapter(Annotated[EventRecord, Field(discriminator="type")])


def decode_record(value: bytes) -> EventRecord:
    """Decode a record of the events topic.

    Raises:
        Undecodable: it is not such a record; the message has the reason.
    """
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error}") from error
    try:
        record = _RECORDS.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Undecodable(
            f"not a record of the events topic: {'/'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    if not isinstance(record, EventBatch) and record.run() is None and record.session_id is None:
        raise Undecodable(f"{record.type} names neither a run nor a session")
    return record
