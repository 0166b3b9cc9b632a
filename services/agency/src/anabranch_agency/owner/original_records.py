"""Reads refused records of the topic `requests` again, for their dead letters.

Refusals come in bursts of neighbouring records, which one reader reads together. Records that are no longer on the
log are left out.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from anabranch.ports import EventLog, Incoming

MAX_GAP = 1_000
"""The most records between two records that one reader reads together."""
# Each reader is a Kafka consumer of its own, with threads and connections.
MAX_READERS = 4
IDLE_SECONDS = 5.0
"""A reader that receives no record for this time has reached the end of the log."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The position of a record."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, text: str) -> Origin:
        """Parse `topic/partition/offset`."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


async def originals(log: EventLog, origins: Iterable[Origin]) -> dict[Origin, Incoming]:
    """The records at the given positions, without those that are no longer on the log.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    limit = asyncio.Semaphore(MAX_READERS)
    found = await asyncio.gather(*(_read(log, span, limit) for span in _spans(origins)))
    return {origin: record for records in found for origin, record in records.items()}


def _spans(origins: Iterable[Origin]) -> Iterator[Sequence[Origin]]:
    """Positions of one partition that are near each other, in order."""
    partitions: dict[tuple[str, int], list[Origin]] = defaultdict(list)
    for origin in sorted(set(origins), key=lambda each: each.offset):
        partitions[origin.topic, origin.partition].append(origin)
    for ordered in partitions.values():
        span: list[Origin] = []
        for origin in ordered:
            if span and origin.offset - span[-1].offset > MAX_GAP:
                yield span
                span = []
            span.append(origin)
        yield span


async def _read(log: EventLog, span: Sequence[Origin], limit: asyncio.Semaphore) -> dict[Origin, Incoming]:
    wanted = {origin.offset: origin for origin in span}
    found: dict[Origin, Incoming] = {}
    async with limit, log.read(span[0].topic, [span[0].partition], start=span[0].offset) as reader:
        batches = aiter(reader)
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    batch = await anext(batches)
            except TimeoutError:
                return found
            found |= {wanted[record.offset]: record for record in batch if record.offset in wanted}
            # Not `==`: the record at the last position may have been removed from the log.
            if batch[-1].offset >= span[-1].offset:
                return found
