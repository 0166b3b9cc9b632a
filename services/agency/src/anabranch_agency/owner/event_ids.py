"""Reads from the store which events of a batch were published before: the same id is the same event for days."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.event_addresses import PREFIX
from anabranch.core.names import Names
from anabranch.core.wire.codec import Undecodable, split
from anabranch.ports import Incoming
from anabranch.runtime.ownership.handler import Recall
from anabranch_agency.run.state import PartitionState

ADDRESS_PREFIX = PREFIX.encode()
"""How the key of each record about events begins."""


async def recall_event_ids(
    state: PartitionState, names: Names, records: Sequence[Incoming], recall: Recall
) -> None:
    """Add to the state when the events of these records were published first, if it was before.

    What the store knows of an event counts only for records after the one that published it: a replay must not see
    the outcome of a record that it has not read yet. So each position is kept beside the id, see `is_known_event`.
    """
    wanted = [found for record in records if (found := _published(record)) is not None]
    unknown = [each for each in dict.fromkeys(wanted) if each not in state.known_events]
    if not unknown:
        return
    values = await recall([names.event_seen(*each) for each in unknown])
    for each, value in zip(unknown, values, strict=True):
        if value is not None:
            position, at = orjson.loads(value)
            state.note_event(*each, position, at)


def _published(record: Incoming) -> tuple[str, str] | None:
    """Address and id of the event in a record; None for any other message."""
    try:
        header, _ = split(record.value)
    except Undecodable:
        return None
    if header.get("type") != "event":
        return None
    address, event_id = header.get("run_id"), header.get("event_id")
    return (address, event_id) if isinstance(address, str) and isinstance(event_id, str) else None
