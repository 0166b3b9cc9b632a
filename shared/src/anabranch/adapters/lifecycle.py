"""Life cycle of a member's partitions on the event loop: runs the listener's callbacks in the right order.

Shared by every log adapter, so that the order `assigned`, `deliver`..., `revoked` or `lost` is kept in one place.
It makes no calls to a log: an adapter begins and ends partitions, and gets the offset to start at.
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
TAKE_OVER_SECONDS = 180.0
"""Longest time of a takeover. Its requests have shorter limits of their own, so one that takes longer waits for
an answer that will not come: it ends with a traceback of the place, and is begun again."""

_log = logging.getLogger("anabranch.log")


class PartitionLifecycle:
    """Runs one listener's callbacks for the partitions of one member.

    `look_up` returns the committed position; `opened(partition, start, committed)` is called when `assigned` has
    returned, after which the adapter may deliver. A slow `assigned` delays only its own partition; one that raises
    is retried each second, because a partition without a reader would stall its keys.
    """

    def __init__(self, listener: PartitionListener, look_up: LookUp, opened: Opened) -> None:
        self._listener = listener
        self._look_up = look_up
        self._opened = opened
        self._opening: dict[TopicPartition, asyncio.Task[None]] = {}
        self._open: set[TopicPartition] = set()

    def is_open(self, partition: TopicPartition) -> bool:
        """True if `assigned` has returned, and neither `revoked` nor `lost` was called since."""
        return partition in self._open

    def partitions(self) -> list[TopicPartition]:
        """Partitions that have begun and not ended."""
        return [*self._opening, *self._open]

    def abandon(self) -> None:
        """Stop at once without any callback, as a process that dies."""
        for task in self._opening.values():
            task.cancel()
        self._opening.clear()
        self._open.clear()

    def begin(self, partition: TopicPartition) -> None:
        """Start the takeover of a partition, in the background: look up its position, then call `assigned`."""
        self._opening[partition] = asyncio.ensure_future(self._assign(partition))

    async def revoke(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """Revoke partitions; returns the positions to commit. Takes at most REVOKE_SECONDS in total."""
        ready, unready = await self._stop(partitions)
        # They have no position to commit: their takeover has not ended.
        await self._lose(unready)
        positions = await asyncio.gather(*(self._revoke(partition) for partition in ready))
        return {partition: position for partition, position in zip(ready, positions, strict=True) if position}

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop partitions that another member owns already."""
        ready, unready = await self._stop(partitions)
        await self._lose(ready + unready)

    async def _assign(self, partition: TopicPartition) -> None:
        while True:
            try:
                async with asyncio.timeout(TAKE_OVER_SECONDS):
                    committed = await self._look_up(partition)
                    start = await self._listener.assigned(*partition, committed)
            except Exception:  # noqa: BLE001 - the listener is foreign code; the partition must still be read
                _log.exception("taking over %s[%d] failed; retrying in a second", *partition)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._opening.pop(partition, None)
        self._open.add(partition)
        self._opened(partition, start, committed)

    async def _stop(
        self, partitions: Iterable[TopicPartition]
    ) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """End delivery of partitions; returns those that were open and those that were being opened."""
        wanted = list(partitions)
        ready = [partition for partition in wanted if partition in self._open]
        unready = [partition for partition in wanted if partition in self._opening]
        # Before any await, so that no record is delivered after this line.
        self._open.difference_update(ready)
        tasks = [self._opening.pop(partition) for partition in unready]
        for task in tasks:
            task.cancel()
        if tasks:
            # Not `gather`: an `assigned` that ignores its cancellation must not delay the rebalance further.
            await asyncio.wait(tasks, timeout=REVOKE_SECONDS)
        return ready, unready

    async def _revoke(self, partition: TopicPartition) -> Committed | None:
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                return await self._listener.revoked(*partition)
        except Exception:  # noqa: BLE001 - the partition moves to another member in any case
            _log.exception("revoking %s[%d] failed; nothing is committed for it", *partition)
            return None

    async def _lose(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            try:
                await self._listener.lost(*partition)
            except Exception:  # noqa: BLE001 - as above: another member has it already
                _log.exception("dropping %s[%d], which another member owns, failed", *partition)
