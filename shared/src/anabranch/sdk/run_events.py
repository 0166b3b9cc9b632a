"""Follows the lifecycle events of one run on the events topic up to its last event.

The caller chooses where to start: at the end of the topic before the run was submitted, or at its beginning for an
older run. The last event may be missing (retention removed it, or its owner died before publishing it). Then the
final record ends the iteration after GRACE_SECONDS without an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from anabranch.core.names import Names
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.events import EventBatch, EventSequence, decode_batch
from anabranch.ports import EventLog, Incoming

Start = int | Literal["earliest", "latest"]

GRACE_SECONDS = 5.0
LAST_TYPES = frozenset({"run.completed", "run.failed", "run.cancelled", "run.timed_out"})


async def follow_batches(
    log: EventLog, names: Names, run_id: str, start: Start, final: asyncio.Future[Any], until_now: bool = False
) -> AsyncGenerator[EventBatch, None]:
    """Yield the event batches of a run in the order of the log.

    Args:
        start: offset in the run's partition.
        final: done once the run has ended, which limits the wait for its last event.
        until_now: stop at the current end of the log instead of waiting for the run's end.

    Raises:
        ServerUnavailable: the log cannot be reached.
    """
    partition = await log.partition_for(names.events, run_id)
    async with log.read(names.events, [partition], start) as reader:
        end = (await reader.end_offsets())[partition] if until_now else None
        if end == 0:
            return
        async for records in _until_silent(aiter(reader), final):
            for record in records:
                batch = _batch_of(record, run_id)
                if batch is not None:
                    yield batch
                    if any(entry.type in LAST_TYPES for entry in batch.entries):
                        return
                if end is not None and record.offset + 1 >= end:
                    return


async def follow_events(
    log: EventLog, names: Names, run_id: str, start: Start, final: asyncio.Future[Any], until_now: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield each event of a run once, with `seq` from 1. Raises as `follow_batches`."""
    sequence = EventSequence()
    async with contextlib.aclosing(follow_batches(log, names, run_id, start, final, until_now)) as batches:
        async for batch in batches:
            for event in sequence.read(batch):
                yield shown(event)


def shown(event: dict[str, Any]) -> dict[str, Any]:
    """An event for users: its time as RFC 3339 in UTC."""
    return {**event, "time": rfc3339(event["time"])}


def _batch_of(record: Incoming, run_id: str) -> EventBatch | None:
    """The batch in a record; None if the record is not an event batch of this run."""
    if record.key != run_id.encode():
        return None
    try:
        return decode_batch(record.value)
    except ValidationError:  # a foreign record with this key
        return None


async def _until_silent(
    source: AsyncIterator[Sequence[Incoming]], final: asyncio.Future[Any]
) -> AsyncGenerator[Sequence[Incoming], None]:
    """Yield from the source; stop once `final` is done and nothing has arrived for GRACE_SECONDS."""
    while True:
        # `asyncio.wait` cancels nothing at a timeout: `final` is shared with other callers.
        following = asyncio.ensure_future(anext(source))
        try:
            await asyncio.wait({following, final}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await asyncio.wait({following}, timeout=GRACE_SECONDS)
            if not following.done():
                return
            yield following.result()
        except StopAsyncIteration:
            return
        finally:
            following.cancel()
