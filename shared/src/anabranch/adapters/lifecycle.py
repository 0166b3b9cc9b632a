"""The life of a member's partitions on the event loop: which listener callback runs when.

Shared by every log adapter, so that the order `assigned`, `deliver`..., `revoked` or `lost` is kept in one
place. It never talks to a log: an adapter begins and ends partitions, and is told where to start reading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from anabranch.ports import Committed, PartitionListener

TopicPartition = tuple[str, int]
LookUp = Callable[[TopicPartition], Awaitable[Committed | None]]
Opened = Callable[[TopicPartition, int | None, Committed | None], None]

REVOKE_SECONDS = 5.0
RETRY_SECONDS = 1.0

_log = logging.getLogger("anabranch.log")


class PartitionLifecycle:
    """Runs one listener's callbacks for the partitions of one member.

    `look_up` finds what the group committed; `opened(partition, start, committed)` is called when `assigned`
    has returned: from then on the adapter may deliver. A slow `assigned` delays its own partition only; one
    that raises is tried again each second, because a partition without a reader would stall its keys.
    """

    def __init__(self, listener: PartitionListener, look_up: LookUp, opened: Opened) -> None:
        self._listener = listener
        self._look_up = look_up
        self._opened = opened
        self._opening: dict[TopicPartition, asyncio.Task[None]] = {}
        self._open: set[TopicPartition] = set()

    def is_open(self, partition: TopicPartition) -> bool:
        """Whether `assigned` has returned and neither `revoked` nor `lost` was called since."""
        return partition in self._open

    def partitions(self) -> list[TopicPartition]:
        """Every partition begun and not yet ended."""
        return [*self._opening, *self._open]

    def abandon(self) -> None:
        """Stop at once and call nothing more, as a process that died does."""
        for task in self._opening.values():
            task.cancel()
        self._opening.clear()
        self._open.clear()

    def begin(self, partition: TopicPartition) -> None:
        """Start taking a partition over."""
        self._opening[partition] = asyncio.ensure_future(self._assign(partition))

    async def revoke(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """Give partitions up; returns the positions to commit. Takes at most REVOKE_SECONDS, all together."""
        ready, unready = await self._stop(partitions)
        await self._lose(unready)
        positions = await asyncio.gather(*(self._revoke(partition) for partition in ready))
        return {partition: position for partition, position in zip(ready, positions, strict=True) if position}

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop partitions that somebody else owns already."""
        ready, unready = await self._stop(partitions)
        await self._lose(ready + unready)

    async def _assign(self, partition: TopicPartition) -> None:
        while True:
            try:
                committed = await self._look_up(partition)
                start = await self._listener.assigned(*partition, committed)
            except Exception:  # noqa: BLE001 - the listener is foreign code; the partition must still be read
                _log.exception("taking over %s[%d] failed; trying again", *partition)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._opening.pop(partition, None)
        self._open.add(partition)
        self._opened(partition, start, committed)

    async def _stop(
        self, partitions: Iterable[TopicPartition]
    ) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Close partitions for delivery; returns those that were open and those that were being opened."""
        wanted = list(partitions)
        ready = [partition for partition in wanted if partition in self._open]
        unready = [partition for partition in wanted if partition in self._opening]
        self._open.difference_update(ready)
        tasks = [self._opening.pop(partition) for partition in unready]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=REVOKE_SECONDS)
        return ready, unready

    async def _revoke(self, partition: TopicPartition) -> Committed | None:
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                return await self._listener.revoked(*partition)
        except Exception:  # noqa: BLE001 - the partition moves on whatever the listener does
            _log.exception("giving up %s[%d] failed; nothing is committed for it", *partition)
            return None

    async def _lose(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            try:
                await self._listener.lost(*partition)
            except Exception:  # noqa: BLE001 - as above: it is already somebody else's
                _log.exception("dropping %s[%d] failed", *partition)
