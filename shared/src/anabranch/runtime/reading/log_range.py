"""Reads a range of one partition once, for commands and queries; services that follow a topic use a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import EventLog, Incoming

BATCH_SECONDS = 30.0


async def records_between(
    log: EventLog, topic: str, partition: int, start: int, end: int
) -> AsyncGenerator[Incoming, None]:
    """Iterate over the records of a partition with offsets from `start` to before `end`.

    Raises:
        ServerUnavailable: no record arrives within BATCH_SECONDS.
    """
    if start >= end:
        return
    async with log.read(topic, [partition], start) as reader:
        batches = aiter(reader)
        while True:
            for record in await _next(batches, topic, partition):
                # With gaps in the offsets (transaction markers, compaction), `end - 1` may not exist.
                if record.offset < end:
                    yield record
                if record.offset >= end - 1:
                    return


async def _next(batches: AsyncIterator[Sequence[Incoming]], topic: str, partition: int) -> Sequence[Incoming]:
    try:
        async with asyncio.timeout(BATCH_SECONDS):
            return await anext(batches)
    except TimeoutError as error:
        reason = f"no records within {BATCH_SECONDS:g} s"
        raise ServerUnavailable("Kafka", f"{topic}/{partition}", reason) from error
