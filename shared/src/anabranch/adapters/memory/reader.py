"""Reads partitions of the log in memory without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

from anabranch.adapters.memory.partition import LogPartition
from anabranch.ports import Incoming

BATCH_RECORDS = 500


class MemoryReader:
    """See `ports.Reader`. The positions are fixed at construction; `close` ends the iteration."""

    def __init__(self, partitions: Sequence[LogPartition], start: int | Literal["earliest", "latest"]) -> None:
        self._positions = {partition: _start_of(partition, start) for partition in partitions}
        self._has_records = asyncio.Event()
        self._closed = False
        for partition in partitions:
            partition.watch(self._has_records.set)

    async def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        while not self._closed:
            self._has_records.clear()
            behind = [partition for partition, at in self._positions.items() if at < partition.end]
            for partition in behind:
                batch = partition.read(self._positions[partition], BATCH_RECORDS)
                self._positions[partition] = batch[-1].offset + 1
                yield batch
            if not behind:
                await self._has_records.wait()

    async def end_offsets(self) -> Mapping[int, int]:
        """See `ports.Reader`."""
        return {partition.number: partition.end for partition in self._positions}

    def close(self) -> None:
        """Stop watching, and end every iteration."""
        self._closed = True
        for partition in self._positions:
            partition.unwatch(self._has_records.set)
        self._has_records.set()


def _start_of(partition: LogPartition, start: int | Literal["earliest", "latest"]) -> int:
    if start == "latest":
        return partition.end
    return partition.first if start == "earliest" else start
