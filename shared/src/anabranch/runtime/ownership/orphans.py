"""Asks after runs whose own records are gone because their topic was deleted and created again.

The owner that knew such a run forgets it with the partition: it noticed by itself and joined again, or its group
took the partition. What it knew is kept until it is assigned a partition of the topic again: only then does it
know whether that is the same topic.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from anabranch.ports import EventLog, Outgoing

log = logging.getLogger(__name__)

_Kept = tuple[int, Sequence[Outgoing]]


class Orphans:
    """The records that ask after the runs of partitions that one owner gave up; see `Handler.orphans`."""

    def __init__(self, eventlog: EventLog) -> None:
        self._log = eventlog
        self._kept: dict[int, _Kept] = {}
        """By partition, the generation of its topic and the records."""

    def keep(self, partition: int, generation: int, records: Sequence[Outgoing]) -> None:
        """A partition was given up."""
        self._kept[partition] = generation, records

    async def ask(self, partition: int, generation: int) -> None:
        """A partition was assigned: append what was kept of earlier generations of the topic.

        Raises:
            ServerUnavailable: the records cannot be appended; they are kept.
        """
        # In the same generation the partition still has the records of its runs, and the replay rebuilds them.
        lost = {number: kept for number, kept in self._kept.items() if kept[0] < generation}
        for number in {partition, *lost}:
            self._kept.pop(number, None)
        records = [record for _, each in lost.values() for record in each]
        if records:
            await self._publish(lost, records)

    async def _publish(self, lost: Mapping[int, _Kept], records: Sequence[Outgoing]) -> None:
        log.warning("%d runs were open in %s when it was deleted", len(records), records[0].topic)
        try:
            await self._log.publish(records)
        except BaseException:
            # What was kept during the publish is newer and takes precedence.
            self._kept = {**lost, **self._kept}
            raise
