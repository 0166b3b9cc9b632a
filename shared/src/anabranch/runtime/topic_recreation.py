"""Detects, for a running reader, that its topic was deleted and created again.

A client that reads by offsets does not notice: if the new topic is longer than its position, it skips the records
below. The first record of a partition identifies the topic: retention only moves it to later offsets. If there is
another record at the same offset, or the first offset is lower, the topic is another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from anabranch.ports import Beginning, EventLog, Incoming

log = logging.getLogger(__name__)

POLL_SECONDS = 3.0


def is_recreated(known: Beginning, found: Beginning, end: int) -> bool:
    """True if a partition that began with `known`, and had records below offset `end`, belongs to another topic
    now that it begins with `found`. Retention only moves the beginning to later records."""
    # Retention leaves an empty partition at the end offset that it had. A new one ends before records that were
    # seen.
    if found.timestamp is None:
        return found.offset < max(end, known.offset + (known.timestamp is not None))
    # None: the partition was empty, and has its first record there now.
    if found.offset == known.offset:
        return known.timestamp not in (None, found.timestamp)
    return found.offset < known.offset


class RecreationDetector:
    """Tracks the beginnings of the partitions of one reader."""

    def __init__(self, eventlog: EventLog, topic: str) -> None:
        self._log = eventlog
        self._topic = topic
        self._known: dict[int, Beginning] = {}
        self._ends: dict[int, int] = {}
        """By partition, the offset after the last record that was seen."""
        self._awaited: dict[int, int] = {}
        self._next_poll = 0.0

    async def assigned(self, partition: int) -> None:
        """Note the beginning of a partition. Call it before the topic is queried or read in any other way.

        Raises:
            ServerUnavailable: the log cannot be queried.
        """
        found = await self._log.beginnings(self._topic, [partition])
        self._known[partition], self._ends[partition] = found[partition], 0
        self._awaited.pop(partition, None)

    def claimed(self, partition: int, epoch: int) -> None:
        """Note that the reader appended its claim at offset `epoch`, which is not delivered yet."""
        self._awaited[partition] = epoch
        self._ends[partition] = max(self._ends.get(partition, 0), epoch + 1)

    def delivered(self, partition: int, records: Sequence[Incoming]) -> None:
        """Note delivered records. The first record of an empty partition becomes its beginning."""
        known, first = self._known.get(partition), records[0]
        if known is not None and known.timestamp is None and first.offset >= known.offset:
            self._known[partition] = Beginning(first.offset, first.timestamp)
        self._ends[partition] = max(self._ends.get(partition, 0), records[-1].offset + 1)
        if self._awaited.get(partition, records[-1].offset + 1) <= records[-1].offset:
            del self._awaited[partition]

    async def were_recreated(self, partitions: Collection[int]) -> bool:
        """True if the topic was recreated since these partitions were assigned, or lost a claim that has not been
        delivered yet. The next True needs new assignments. Queries the log at most once in POLL_SECONDS.

        Raises:
            ServerUnavailable, Misconfigured: the log cannot be queried, or has no such topic at the moment.
        """
        now = asyncio.get_running_loop().time()
        known = {number: each for number, each in self._known.items() if number in partitions}
        if now < self._next_poll or not known:
            return False
        self._next_poll = now + POLL_SECONDS
        # Copied before the request: with records that arrive during it, an older answer would look like a lost
        # partition.
        ends = dict(self._ends)
        found = await self._log.beginnings(self._topic, known)
        for number, each in found.items():
            if self._known.get(number) is not known[number]:
                continue  # it was assigned again, or got its first record, during the request
            if is_recreated(known[number], each, ends[number]) or self._lacks_claim(number, each):
                self._log_recreation(number, known[number], each)
                self._known.clear()
                return True
            # Retention moved the beginning, so the next poll compares with this one.
            self._known[number] = each
        return False

    def _lacks_claim(self, partition: int, found: Beginning) -> bool:
        return found.offset > self._awaited.get(partition, found.offset)

    def _log_recreation(self, partition: int, known: Beginning, found: Beginning) -> None:
        log.warning(
            "%s/%d began with offset %d (time %s) and now begins with offset %d (time %s): the topic was deleted "
            "and created again, or lost the claim that this owner waits for; joining the group again",
            self._topic,
            partition,
            known.offset,
            known.timestamp,
            found.offset,
            found.timestamp,
        )
