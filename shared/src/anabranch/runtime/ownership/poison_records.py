"""Detects poison records: a record whose processing crashed several owners in a row.

An exception out of `decide` is caught; a crash of the process is not, and the partition's next owner reads the
same record. So an owner that replays a partition notes in the store which records it decides about: a batch at
first, and single records after an owner died in a batch. A record is poison after DEATHS deaths in which it was
decided alone: it becomes a dead letter, and no owner decides about it again.

The note is written before the decision and cleared after it, so a false positive needs DEATHS owners in a row that
die for another reason between these two writes. That is most likely at the first record that an owner meets, its
claim. Claims have no key, and there is nothing to decide about them, so they are not noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from anabranch.ports import Incoming, StateStore, Write

DEATHS = 3
"""Deaths over a single record. Up to two more come before them: one that left no note, one in a batch."""
NOTE_SECONDS = 7 * 86_400.0
REASON = f"its owner died while it decided about it, {DEATHS} times or more"


class PoisonRecordGuard:
    """The note of one partition, stored under `key`."""

    def __init__(self, store: StateStore, key: str) -> None:
        self._store = store
        self._key = key
        self._suspects = range(0)
        self._deaths = 0
        self._poison: set[int] = set()

    async def load(self) -> None:
        """Read the last owner's note. Raises ServerUnavailable."""
        [found] = await self._store.get([self._key])
        if found is None:
            return
        note = orjson.loads(found)
        self._poison = set(note["buried"])
        if note["deciding"] is not None:
            first, last = note["deciding"]
            self._suspects = range(first, last + 1)
            # The owner clears its note after the decision, so it died. A death in a batch is charged to no record:
            # the records of the batch are decided one by one from now on.
            self._deaths = note["deaths"] + 1 if first == last else 0

    def split(self, records: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
        """Split records, in order: suspect and poison records are parts of their own."""
        begin = 0
        for at, record in enumerate(records):
            if record.offset in self._suspects or record.offset in self._poison:
                if begin < at:
                    yield records[begin:at]
                yield records[at : at + 1]
                begin = at + 1
        if begin < len(records):
            yield records[begin:]

    def is_poison(self, record: Incoming) -> bool:
        """True if a record is poison."""
        return record.offset in self._poison or (self._is_suspect(record) and self._deaths >= DEATHS)

    def _is_suspect(self, record: Incoming) -> bool:
        """True if the last owner died while it decided about this record alone."""
        return len(self._suspects) == 1 and record.offset in self._suspects

    @staticmethod
    def is_harmless(part: Sequence[Incoming]) -> bool:
        """True if all records are claims."""
        return all(record.key is None for record in part)

    async def enter(self, part: Sequence[Incoming]) -> None:
        """Note that the decision about these records begins. Raises ServerUnavailable, StoreRefused."""
        deaths = self._deaths if self._is_suspect(part[0]) else 0
        await self._write([part[0].offset, part[-1].offset], deaths)

    async def leave(self) -> None:
        """Note that the decision has ended. Raises ServerUnavailable, StoreRefused."""
        await self._write(None, 0)

    async def mark_poison(self, record: Incoming) -> None:
        """Note that a record is poison. Raises ServerUnavailable, StoreRefused."""
        self._poison.add(record.offset)
        await self._write(None, 0)

    async def _write(self, deciding: list[int] | None, deaths: int) -> None:
        note = {"deciding": deciding, "deaths": deaths, "buried": sorted(self._poison)}
        await self._store.put([Write(self._key, orjson.dumps(note), NOTE_SECONDS)])
