"""The `HistoryStore` on the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql import bulk
from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import OFFSETS, RUNS, TERMS
from anabranch.adapters.sql.metadata import METADATA
from anabranch.core.errors import Fenced
from anabranch.ports.history import HistoryPosition, HistoryWrites

LOOKED_UP = 5_000
"""Runs that one statement looks up: databases limit the parameters of a statement."""


class SqlHistoryStore:
    """See `ports.history.HistoryStore`. Its `close` leaves a database open that `is_shared` with others."""

    def __init__(self, database: Database, *, is_shared: bool = False) -> None:
        self._database = database
        self._is_shared = is_shared

    async def prepare(self) -> None:
        """See `ports.history.HistoryStore`."""
        await self._database.async_upgrade()

    async def take_over(self, topic: str, partition: int, incarnation: str) -> HistoryPosition:
        """See `ports.history.HistoryStore`."""

        def take_over(connection: sa.Connection) -> HistoryPosition:
            known = connection.execute(
                _where(sa.select(OFFSETS), topic, partition).with_for_update()
            ).one_or_none()
            if known is None:
                epoch, following = 1, 0
                times = {"record_time": 0.0, "caught_up_at": 0.0}
                row = {"topic": topic, "partition": partition, "incarnation": incarnation}
                connection.execute(OFFSETS.insert().values(**row, **times, epoch=epoch, next_offset=following))
            else:
                epoch = known.epoch + 1
                following = known.next_offset if known.incarnation == incarnation else 0
                changes = {"epoch": epoch, "next_offset": following, "incarnation": incarnation}
                connection.execute(_where(OFFSETS.update(), topic, partition).values(**changes))
            return HistoryPosition(topic, partition, incarnation, epoch, following)

        return await self._database.async_write(take_over)

    async def states(self, run_ids: Sequence[str]) -> Mapping[str, bytes]:
        """See `ports.history.HistoryStore`."""

        def read(connection: sa.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for start in range(0, len(run_ids), LOOKED_UP):
                wanted = RUNS.c.run_id.in_(run_ids[start : start + LOOKED_UP])
                rows = connection.execute(sa.select(RUNS.c.run_id, RUNS.c.state).where(wanted))
                found.update((row.run_id, row.state) for row in rows)
            return found

        return await self._database.async_read(read) if run_ids else {}

    async def write(
        self, position: HistoryPosition, next_offset: int, writes: HistoryWrites, record_time: float, now: float
    ) -> HistoryPosition:
        """See `ports.history.HistoryStore`."""

        def write(connection: sa.Connection) -> None:
            if not _advance(connection, position, next_offset, record_time, now):
                return
            for name, rows in writes.rows.items():
                bulk.put(connection, METADATA.tables[name], rows)
            bulk.delete(connection, TERMS, writes.removed_terms)
            bulk.put(connection, TERMS, writes.added_terms)

        await self._database.async_write(write)
        return replace(position, next_offset=next_offset)

    async def caught_up(self, positions: Sequence[HistoryPosition], now: float) -> None:
        """See `ports.history.HistoryStore`."""

        def note(connection: sa.Connection) -> None:
            for each in positions:
                is_last = (OFFSETS.c.epoch == each.epoch) & (OFFSETS.c.next_offset == each.next_offset)
                update = _where(OFFSETS.update(), each.topic, each.partition).where(is_last)
                connection.execute(update.values(caught_up_at=now))

        if positions:
            await self._database.async_write(note)

    async def close(self) -> None:
        """See `ports.history.HistoryStore`."""
        if not self._is_shared:
            await asyncio.to_thread(self._database.close)


def _advance(
    connection: sa.Connection, position: HistoryPosition, next_offset: int, record_time: float, now: float
) -> bool:
    """Advance the offset of a partition first, which locks its row; False if that was committed before.

    Raises:
        Fenced: another owner has the partition.
    """
    is_ours = (OFFSETS.c.epoch == position.epoch) & (OFFSETS.c.next_offset == position.next_offset)
    changes = {"next_offset": next_offset, "record_time": record_time, "caught_up_at": now}
    update = _where(OFFSETS.update(), position.topic, position.partition).where(is_ours).values(**changes)
    if connection.execute(update).rowcount == 1:
        return True
    known = connection.execute(_where(sa.select(OFFSETS), position.topic, position.partition)).one_or_none()
    if known is not None and known.epoch == position.epoch and known.next_offset == next_offset:
        return False
    current = known.epoch if known is not None else 0
    raise Fenced(f"{position.topic}/{position.partition} of the history", position.epoch, current)


def _where(statement: Any, topic: str, partition: int) -> Any:
    return statement.where((OFFSETS.c.topic == topic) & (OFFSETS.c.partition == partition))
