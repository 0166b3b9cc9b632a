"""Makes the run of one claimed chunk, whose members wait for room where their templates may become large texts."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor as Threads
from functools import partial

from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch_taskgroup.worker.runner import ChunkRun
from anabranch_taskgroup.worker.task_documents import Prepared, members_of, slices_of
from anabranch_taskgroup.worker.template_memory import TemplateMemory


def opened(
    offer: Offer,
    prepared: Prepared,
    segment: bytes,
    room: TemplateMemory,
    clock: Clock,
    threads: Threads,
    told: asyncio.Event,
) -> ChunkRun:
    """The run of an offer's members.

    Args:
        segment: the slices of arrays that came with the offer, if any.
        room: what the members of the whole worker share.
    """
    items = slices_of(segment)
    run = ChunkRun(offer, prepared, members_of(prepared, offer, items), clock, threads, told)
    size = prepared.weight.of_members(len(segment) or prepared.document_bytes, items or prepared.arrays)
    if size:
        run.turn, run.recorded = partial(room.hold, size), _nothing_to_record
    return run


async def _nothing_to_record() -> None:
    """For members that wait for room, and not for the log."""
