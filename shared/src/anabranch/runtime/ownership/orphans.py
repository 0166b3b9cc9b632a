"""Queries runs whose records are gone because their topic was deleted and created again.

An owner drops its state of such a run with the partition: it detected the recreation and rejoined the group, or
the group revoked the partition. Queries for its open runs are kept until a partition of the topic is assigned
again, because only then is it known whether the topic is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from anabranch.ports import EventLog, Outgoing

log = logging.getLogger(__name__)

_Kept = tuple[int, Sequence[Outgoing]]


class Orphans:
    """Records that query the open runs of partitions that one owner released; see `PartitionHandler.orphans`."""

    def __init__(self, eventlog: EventLog) -> None:
        self._log = eventlog
        self._kept: dict[int, _Kept] = {}
        """By partition, the generation of its topic and the records."""

    def keep(self, partition: int, generation: int, records: Sequence[Outgoing]) -> None:
        """Keep the queries of a partition that is being released."""
        self._kept[partition] = generation, records

    async def publish_kept(self, partition: int, generation: int) -> None:
        """Append the queries of earlier generations of the topic, after the assignment of a partition.

        Raises:
            ServerUnavailable: the log does not respond; the queries are kept.
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
