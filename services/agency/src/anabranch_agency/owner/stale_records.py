"""Compares records of open runs in the store with the log, where the state of the owner does not have the runs.

The owner folds the log from the oldest open run on. A run that is not in its state, and whose admission is still
on the log, has therefore ended; the store has an old copy of its record, for example after a part of its keys was
restored from a backup. If the admission is gone from the log, the run itself may be lost.

The number of an admission may be of an earlier generation although its record is in the present topic: an owner
that had not noticed yet that the topic was created again admitted the run. The present owner reads the topic from
its beginning. It must admit the run anew, by whichever submission of it comes first, and not take it for lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anabranch.core.admissions import parts_of
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import EventLog
from anabranch_agency.owner.original_records import Origin, originals


@dataclass(frozen=True, slots=True)
class AdmittedRuns:
    """Ids of runs whose admission is on the log, by what that shows about a run that is not open."""

    ended: tuple[str, ...] = ()
    misnumbered: tuple[str, ...] = ()
    """An owner in an earlier generation admitted them."""


async def admitted_runs(
    log: EventLog, topic: str, partition: int, generation: int, unended: Mapping[str, RunRecord]
) -> AdmittedRuns:
    """Find those runs whose admission is still on the log.

    Args:
        generation: the present generation of the log.
        unended: by run id, the record of a run that is not open, as the store has it: without an end.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    positions = {run_id: parts_of(record.offset) for run_id, record in unended.items()}
    origins = {run_id: Origin(topic, partition, offset) for run_id, (_, offset) in positions.items()}
    found = await originals(log, origins.values())
    present = [
        run_id
        for run_id, origin in origins.items()
        # A log that lost its last records, or a new topic, has other records at their offsets by now.
        if (record := found.get(origin)) is not None
        and record.key == run_id.encode()
        and record.timestamp == unended[run_id].accepted_at
    ]
    return AdmittedRuns(
        ended=tuple(run_id for run_id in present if positions[run_id][0] == generation),
        misnumbered=tuple(run_id for run_id in present if positions[run_id][0] < generation),
    )
