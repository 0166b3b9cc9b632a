"""Finds runs whose record in the store lacks their end although the log has their admission.

The owner folds the log from the oldest open run on. A run that is not in its state, and whose admission is still
on the log, has therefore ended; the store has an old copy of its record, for example after a part of its keys was
restored from a backup. If the admission is gone from the log, the run itself may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from anabranch.core.admissions import offset_of
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import EventLog
from anabranch_agency.owner.original_records import Origin, originals


async def ended_runs(
    log: EventLog, topic: str, partition: int, generation: int, unended: Mapping[str, RunRecord]
) -> list[str]:
    """The ids of those runs that have ended.

    Args:
        unended: by run id, the record of a run that is not open, as the store has it: without an end.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    origins = {
        Origin(topic, partition, offset): run_id
        for run_id, record in unended.items()
        if (offset := offset_of(record.offset, generation)) is not None
    }
    found = await originals(log, origins)
    return [
        run_id
        for origin, run_id in origins.items()
        # A log that lost its last records has other records at their offsets by now.
        if (record := found.get(origin)) is not None
        and record.key == run_id.encode()
        and record.timestamp == unended[run_id].accepted_at
    ]
