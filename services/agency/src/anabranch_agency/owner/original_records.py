"""Reads records of the topic `requests` again that were refused after they had been read, for their dead letters.

Refusals come in bursts, of records that stand side by side: neighbours are read together, by one reader. What is
no longer on the log is left out; reading never waits for more records than those that were asked for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from anabranch.ports import EventLog, Incoming

NEIGHBOURS = 1_000
"""Records that may stand between two that are read together."""
READERS = 4
IDLE_SECONDS = 5.0
"""After so long without a record there is none left to be read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, text: str) -> Origin:
        """Reads `topic/partition/offset`."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


async def originals(log: EventLog, origins: Iterable[Origin]) -> dict[Origin, Incoming]:
    """The records that are left of those asked for.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    limit = asyncio.Semaphore(READERS)
    found = await asyncio.gather(*(_read(log, span, limit) for span in _spans(origins)))
    return {origin: record for records in found for origin, record in records.items()}


def _spans(origins: Iterable[Origin]) -> Iterator[Sequence[Origin]]:
    """Neighbours of one partition, in order."""
    partitions: dict[tuple[str, int], list[Origin]] = defaultdict(list)
    for origin in sorted(set(origins), key=lambda each: each.offset):
        partitions[origin.topic, origin.partition].append(origin)
    for ordered in partitions.values():
        span: list[Origin] = []
        for origin in ordered:
            if span and origin.offset - span[-1].offset > NEIGHBOURS:
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
            if batch[-1].offset >= span[-1].offset:
                return found
