"""Detects data loss of the store by marks in it, one for each partition of a topic.

A service writes the first half of a mark before it restores a partition's data to the store, and the second half
afterwards: a store that was emptied in between has at most the second half. A store that restarts empty has no
marks. A store restored from an older snapshot has marks that show its age: the second half has the replay position
of the partition at the last write. This module only reads and writes marks; its callers restore lost data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import StateStore, Write

MARK_SECONDS = 30 * 86_400.0
SAVE_SECONDS = 10.0
RENEW_SECONDS = 3_600.0


class LossDetector:
    """Reads and writes the marks of one topic."""

    def __init__(self, store: StateStore, names: Names, topic: str) -> None:
        self._store = store
        self._names = names
        self._topic = topic
        self._renew_at = 0.0
        self._save_at = 0.0
        self._saved: dict[int, int] = {}
        """The replay position in the mark of each partition, as last written."""
        self._samples = count()

    async def begin_restoring(self, partitions: Sequence[int]) -> None:
        """Write the first half of the marks, before the partitions' data are restored. Raises ServerUnavailable,
        StoreRefused."""
        await self._put(map(self._first_half, partitions))

    async def mark_restored(self, partitions: Sequence[int]) -> None:
        """Write the second half of the marks, after the data are restored. If the store was emptied since
        `begin_restoring`, the first half is missing and the partitions count as lost. Raises ServerUnavailable,
        StoreRefused."""
        await self._put(map(self._second_half, partitions))

    async def save_changed(self, begins: Mapping[int, int], now: float) -> None:
        """Write the replay positions that have changed, at most once in SAVE_SECONDS; `now` is monotonic.
        Raises ServerUnavailable, StoreRefused."""
        if now < self._save_at:
            return
        self._save_at = now + SAVE_SECONDS
        await self._save({number: at for number, at in begins.items() if self._saved.get(number) != at})
        # After the write, so that positions whose write failed are written at the next call.
        self._saved = dict(begins)

    def forget_saved(self, partition: int) -> None:
        """Make the next `save_changed` write the position of a partition, even if it has not changed."""
        self._saved.pop(partition, None)

    async def _save(self, begins: Mapping[int, int]) -> None:
        """Write each partition's position: effects of records before it are in the store. Raises
        ServerUnavailable, StoreRefused."""
        if begins:
            await self._store.put(
                [Write(self._second_half(number), b"from:%d" % at, MARK_SECONDS) for number, at in begins.items()]
            )

    async def saved_position(self, partition: int) -> int | None:
        """The last written position in the store; None if the store has none. Raises
        ServerUnavailable."""
        [found] = await self._store.get([self._second_half(partition)])
        # `mark_restored` writes "1" in place of a position.
        return int(found[5:]) if found is not None and found.startswith(b"from:") else None

    async def sample_lost(self, partitions: Sequence[int]) -> list[int]:
        """A cheap `lost_partitions` for repeated checks. Raises ServerUnavailable.

        It reads the mark of one partition, another one at each call, and all marks only if that one is missing,
        because a store is emptied as a whole.
        """
        if not partitions:
            return []
        sample = partitions[next(self._samples) % len(partitions)]
        [first] = await self._store.get([self._first_half(sample)])
        if first is not None:
            await self._renew(partitions)
            return []
        return await self.lost_partitions(partitions)

    async def lost_partitions(self, partitions: Sequence[int]) -> list[int]:
        """The partitions that lack a half of their mark. Raises ServerUnavailable."""
        keys = [*map(self._first_half, partitions), *map(self._second_half, partitions)]
        found = await self._store.get(keys)
        return [
            number
            for number, first, second in zip(
                partitions, found[: len(partitions)], found[len(partitions) :], strict=True
            )
            if first is None or second is None
        ]

    async def recall(self, partition: int, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read values of keys; None means that the store never had the key, or that it expired.

        Raises:
            ServerUnavailable: the store does not respond, or has lost its data and the owner has not restored them
                yet. A missing key would be ambiguous then.
        """
        mark = self._first_half(partition)
        # The mark is read last: if the store still has it, the data were not lost before the keys were read.
        *found, is_kept = await self._store.get([*keys, mark])
        if is_kept is None:
            raise ServerUnavailable("Redis", mark, "it lost its data; the owner of the partition restores them")
        return found

    def _first_half(self, partition: int) -> str:
        return self._names.loss_mark_since(self._topic, partition)

    def _second_half(self, partition: int) -> str:
        return self._names.loss_mark(self._topic, partition)

    async def _put(self, keys: Iterable[str]) -> None:
        await self._store.put([Write(key, b"1", MARK_SECONDS) for key in keys])

    async def _renew(self, partitions: Sequence[int]) -> None:
        now = asyncio.get_running_loop().time()
        # Owners call this every second; the marks live for a month.
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            keys = [*map(self._first_half, partitions), *map(self._second_half, partitions)]
            await self._store.expire(keys, MARK_SECONDS)
