"""The loop around a service's `decide`: decodes records, contains bugs, and makes records of events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from anabranch.core.names import Names
from anabranch.core.wire.codec import Codec, Decoded, Undecodable
from anabranch.core.wire.events import EventBatch, encode_batches
from anabranch.core.wire.messages import Message
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.instrumentation.correlation import working_for_current
from anabranch.runtime.ownership.effects import Effect, PublishAfter, PublishFirst

log = logging.getLogger(__name__)

T = TypeVar("T")


def decide_each(
    codec: Codec[Any],
    records: Sequence[Incoming],
    rejected: list[tuple[Incoming, str]],
    *,
    ids: Callable[[Message], dict[str, str]],
    decide: Callable[[Incoming, Decoded[Any]], T],
    collect: Callable[[Message, T], Iterable[Effect]],
    refuse: Callable[[Incoming, Message | None, str], Iterable[Effect]],
) -> list[Effect]:
    """Decide about records in order; returns the effects of all of them.

    A record that cannot be decoded, or about which `decide` fails, becomes a dead letter and stops no other
    record.

    Args:
        rejected: gets each such record, with the reason.
        ids: returns the ids of a message, for log lines during its decision.
        decide: decides about one record.
        collect: returns the effects of a decision. Its errors are raised.
        refuse: returns what follows from a record that became a dead letter, from its message (None: it cannot be
            decoded) and the reason: a run must not wait for it.
    """
    effects: list[Effect] = []
    message: Message | None = None

    def current_ids() -> dict[str, str]:
        return ids(message) if message is not None else {}

    with working_for_current(current_ids):
        for record in records:
            message = None
            try:
                found = codec.decode(record.value)
            except Undecodable as error:
                rejected.append((record, str(error)))
                effects += refuse(record, None, f"it cannot be decoded: {error}")
                continue
            message = found.message
            try:
                decision = decide(record, found)
            except Exception as error:
                # A bug in a decision. Raised, it would crash each owner of the partition, one after another.
                place = f"{record.topic}/{record.partition}/{record.offset}"
                log.exception("cannot decide about the record at %s, it becomes a dead letter", place)
                reason = f"deciding about it failed: {type(error).__name__}: {error}"
                rejected.append((record, reason))
                effects += refuse(record, message, reason)
                continue
            effects += collect(message, decision)
    return effects


def event_records(names: Names, batch: EventBatch, *, first: bool) -> list[PublishFirst | PublishAfter]:
    """The records of a run's events.

    Args:
        first: publish them before the other records of the turn, because events that follow from those records
            have to come later on the topic. Otherwise nothing waits for the events, and they are published last.
    """
    kind = PublishFirst if first else PublishAfter
    return [kind(Outgoing(names.events, batch.run_id, value)) for value in encode_batches(batch)]
