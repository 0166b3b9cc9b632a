"""The connection to the database: one transaction a call, retried where another transaction was in its way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from anabranch.adapters.sql.faults import SETTING, is_transient, translate
from anabranch.core.errors import Misconfigured
from anabranch.core.json_documents import dumps

T = TypeVar("T")

MAX_TRIES = 10
"""Tries of a transaction that others are in the way of."""
MAX_CONNECTIONS = 10
BUSY_SECONDS = 15
"""How long a writer waits for another writer of a SQLite file."""
_UPGRADE_LOCK = 4_816_230_117
"""Any number: PostgreSQL's advisory lock that one process at a time upgrades the schema under."""
_WRITES = "anabranch_writes"
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


class Database:
    """SQLite or PostgreSQL. Thread-safe. A transaction is a function of a connection, without other effects: it
    may be called again.

    Attributes:
        address: the URL without its password.
        is_postgresql: False for SQLite.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Internal: see `open`."""
        self._engine = engine
        self.address = engine.url.render_as_string(hide_password=True).replace("+psycopg", "")
        self.is_postgresql = engine.dialect.name == "postgresql"
        is_memory = isinstance(engine.pool, StaticPool)
        # A database in memory has one connection, which one thread at a time may use.
        self._turn: threading.Lock | None = threading.Lock() if is_memory else None
        self._threads = ThreadPoolExecutor(1 if is_memory else MAX_CONNECTIONS, "anabranch-database")

    @classmethod
    def open(cls, url: str) -> Database:
        """The database at `url`, not connected yet: `postgresql://user:password@host/name`, `sqlite:///file` or
        `sqlite://` (in the memory of this process).

        Raises:
            Misconfigured: the URL names no such database.
        """
        try:
            parsed = sa.make_url(url)
            driver = _DRIVERS[parsed.drivername.partition("+")[0]]
        except (exc.ArgumentError, KeyError) as error:
            form = "write postgresql://user:password@host/name, sqlite:///file or sqlite://"
            raise Misconfigured(SETTING, "the URL names neither PostgreSQL nor SQLite", form) from error
        shared: dict[str, Any] = {
            "json_serializer": lambda value: dumps(value).decode(),
            "json_deserializer": orjson.loads,
        }
        if driver == "sqlite":
            shared["json_deserializer"] = _loads
            return cls(_sqlite(parsed, shared))
        from anabranch.adapters.sql.null_characters import json_without_null, strip_null

        shared["json_serializer"] = lambda value: json_without_null(dumps(value)).decode()
        engine = sa.create_engine(
            parsed.set(drivername=driver),
            pool_pre_ping=True,
            pool_size=MAX_CONNECTIONS,
            max_overflow=0,
            connect_args={"connect_timeout": 5},
            **shared,
        )
        event.listen(engine, "connect", strip_null)
        return cls(engine)

    def upgrade(self) -> None:
        """Bring the schema to the newest version. Of several processes one does it, and the others wait.

        Raises:
            ServerUnavailable: the database does not respond.
        """
        from anabranch.adapters.sql.migrating import migrate

        def upgrade(connection: sa.Connection) -> None:
            if self.is_postgresql:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            migrate(connection)

        self.write(upgrade)

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of `work` in a transaction that only reads.

        Raises:
            ServerUnavailable: the database does not respond.
        """
        return self._run(work, writes=False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of `work` in a transaction, which is committed unless `work` raises.

        Raises:
            ServerUnavailable: the database does not respond. The transaction may have been committed if the
                connection was lost at its end.
        """
        return self._run(work, writes=True)

    async def async_read(self, work: Callable[[sa.Connection], T]) -> T:
        """`read` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read, work)

    async def async_write(self, work: Callable[[sa.Connection], T]) -> T:
        """`write` in a thread. The transaction ends even if the caller is cancelled meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.write, work)

    async def async_upgrade(self) -> None:
        """`upgrade` in a thread."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.upgrade)

    def close(self) -> None:
        """Wait for the transactions that run, and close all connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def _run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        engine = self._engine.execution_options(**{_WRITES: writes})
        for left in reversed(range(MAX_TRIES)):
            try:
                with self._turn or nullcontext(), engine.begin() as connection:
                    return work(connection)
            except Exception as error:
                if left and self.is_postgresql and is_transient(error):
                    continue
                translated = translate(error, self.address)
                if translated is error:
                    raise
                raise translated from error
        raise AssertionError("the last try returns or raises")


def _loads(stored: Any) -> Any:
    # Files of earlier releases have columns in which SQLite stores a document that is a number as a number.
    return stored if isinstance(stored, int | float) else orjson.loads(stored)


def _sqlite(url: sa.URL, shared: dict[str, Any]) -> sa.Engine:
    file = url.database if url.database not in (None, "", ":memory:") else None
    if file is None:
        pool: dict[str, Any] = {"poolclass": StaticPool}
    else:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        pool = {"pool_size": MAX_CONNECTIONS, "max_overflow": 0}
    options = {"check_same_thread": False, "timeout": BUSY_SECONDS}
    engine = sa.create_engine(url.set(drivername="sqlite"), connect_args=options, **pool, **shared)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins no transactions: `_begin` does
    _use_wal(connection)
    for setting in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -65536",
        "mmap_size = 1073741824",
    ):
        connection.execute(f"PRAGMA {setting}")


def _use_wal(connection: Any) -> None:
    for left in reversed(range(MAX_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if not left:
                raise
            # A change of the mode does not wait for another process that makes it; a transaction does.
            with suppress(sqlite3.OperationalError):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("COMMIT")


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later could not wait for another writer: it would fail.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
