"""Finds the record that kills whoever decides about it, over the deaths of its owners.

An error of `decide` is caught; a crash of the process is not. A partition's next owner would meet the same record,
and the one after it. So an owner that catches up notes in the store what it is deciding about, outside of the
processes that die: a batch at first, single records where the last one died in a batch. A record that DEATHS
owners died of by itself is buried: nobody decides about it again.

An innocent record would be buried where so many owners in a row died by chance between the two writes of the
note, which frame the decision alone. Most likely that is the first record that an owner meets, a claim: about
claims, which have no key, nothing is decided and nothing noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from anabranch.ports import Incoming, StateStore, Write

DEATHS = 3
"""Deaths over a record by itself; before them may come the first one, which left no note, and one in a batch."""
NOTE_SECONDS = 7 * 86_400.0
REASON = f"its owner died while it decided about it, {DEATHS} times or more"


class PoisonRecordGuard:
    """The note of one partition, under `key` in the store."""

    def __init__(self, store: StateStore, key: str) -> None:
        self._store = store
        self._key = key
        self._suspects = range(0)
        self._deaths = 0
        self._buried: set[int] = set()

    async def load(self) -> None:
        """Read what the last owner noted. Raises ServerUnavailable."""
        [found] = await self._store.get([self._key])
        if found is None:
            return
        note = orjson.loads(found)
        self._buried = set(note["buried"])
        if note["deciding"] is not None:
            first, last = note["deciding"]
            self._suspects = range(first, last + 1)
            self._deaths = note["deaths"] + 1 if first == last else 0

    def split(self, records: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
        """Records in order, suspect and buried ones each by itself."""
        begin = 0
        for at, record in enumerate(records):
            if record.offset in self._suspects or record.offset in self._buried:
                if begin < at:
                    yield records[begin:at]
                yield records[at : at + 1]
                begin = at + 1
        if begin < len(records):
            yield records[begin:]

    def is_poison(self, record: Incoming) -> bool:
        """Whether nobody is to decide about a record."""
        return record.offset in self._buried or (self._is_suspect(record) and self._deaths >= DEATHS)

    def _is_suspect(self, record: Incoming) -> bool:
        """Whether it was by itself that the last owner decided about it, and died."""
        return len(self._suspects) == 1 and record.offset in self._suspects

    @staticmethod
    def is_harmless(part: Sequence[Incoming]) -> bool:
        """Whether these are claims alone."""
        return all(record.key is None for record in part)

    async def enter(self, part: Sequence[Incoming]) -> None:
        """Note that these are being decided about. Raises ServerUnavailable, StoreRefused."""
        deaths = self._deaths if self._is_suspect(part[0]) else 0
        await self._write([part[0].offset, part[-1].offset], deaths)

    async def leave(self) -> None:
        """Note that it went well."""
        await self._write(None, 0)

    async def mark_poison(self, record: Incoming) -> None:
        """Note that nobody is to decide about a record again."""
        self._buried.add(record.offset)
        await self._write(None, 0)

    async def _write(self, deciding: list[int] | None, deaths: int) -> None:
        note = {"deciding": deciding, "deaths": deaths, "buried": sorted(self._buried)}
        await self._store.put([Write(self._key, orjson.dumps(note), NOTE_SECONDS)])
