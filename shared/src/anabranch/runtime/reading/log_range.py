"""A stretch of one partition, read once from its beginning to its end: for tools and for answers, not for services
that follow a topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import EventLog, Incoming

BATCH_SECONDS = 30.0


async def records_between(
    log: EventLog, topic: str, partition: int, start: int, end: int
) -> AsyncGenerator[Incoming, None]:
    """The records of a partition from `start` up to `end`.

    Raises:
        ServerUnavailable: they do not come.
    """
    if start >= end:
        return
    async with log.read(topic, [partition], start) as reader:
        batches = aiter(reader)
        while True:
            for record in await _next(batches, topic, partition):
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
