"""Reads the whole history, and projects logs into it, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from history_records import NAMES
from memory_resources import memory_resources
from waiting import eventually_true

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_store import SqlHistoryStore
from anabranch.adapters.sql.history_tables import OFFSETS, PROJECTED
from anabranch.ports import Clock, EventLog
from anabranch.ports.history import HistoryStore
from anabranch_eventmanager.history_projector import HistoryProjector

Rows = Mapping[str, list[dict[str, Any]]]


def rows(database: Database) -> Rows:
    """All rows that depend on the log, by table and in the order of their keys."""

    def read(connection: sa.Connection) -> Rows:
        found = {}
        for table in PROJECTED:
            ordered = sa.select(table).order_by(*table.primary_key)
            found[table.name] = [dict(row) for row in connection.execute(ordered).mappings()]
        return found

    return database.read(read)


def only(database: Database, table: sa.Table, **values: Any) -> list[dict[str, Any]]:
    """The rows of a table with these values, in the order of their keys."""
    wanted = sa.and_(sa.true(), *(table.c[name] == value for name, value in values.items()))
    statement = sa.select(table).where(wanted).order_by(*table.primary_key)
    return database.read(lambda connection: [dict(row) for row in connection.execute(statement).mappings()])


@asynccontextmanager
async def projector(
    log: EventLog, clock: Clock, store: HistoryStore, **more: Any
) -> AsyncIterator[HistoryProjector]:
    """A projector that runs while the context is open."""
    found = HistoryProjector(store, memory_resources(NAMES, clock, log), **({"pace": 0.0} | more))
    found.start()
    try:
        yield found
    finally:
        await found.stop()


async def until_read(log: EventLog, database: Database, timeout: float = 20.0) -> None:
    """Wait until the history has every record of the log."""
    wanted = {}
    for topic in (NAMES.events, NAMES.dead_letters, NAMES.audit):
        standings = await log.group_standing("nobody", topic)
        wanted |= {(topic, number): each.end for number, each in standings.items() if each.end}

    async def is_read() -> bool:
        found = await database.async_read(lambda connection: connection.execute(sa.select(OFFSETS)).all())
        return {(row.topic, row.partition): row.next_offset for row in found if row.next_offset} == wanted

    await eventually_true(is_read, timeout, because="the history has not every record")


async def project(log: EventLog, clock: Clock, database: Database) -> None:
    """Project a whole log."""
    store = SqlHistoryStore(database, is_shared=True)
    await store.prepare()
    async with projector(log, clock, store):
        await until_read(log, database)
