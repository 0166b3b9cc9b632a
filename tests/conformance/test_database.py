"""The database on SQLite and PostgreSQL: transactions, the schema and its upgrade, errors."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from servers.postgres import postgres_node
from servers.process import ServerUnavailableError

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import OFFSETS
from anabranch.adapters.sql.schema import METADATA
from anabranch.core.errors import Misconfigured, ServerUnavailable

ROW = {"topic": "events", "partition": 0, "next_offset": 0, "epoch": 1, "record_time": 0.0, "caught_up_at": 0.0}


def test_the_migrations_make_the_tables_of_the_metadata(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    assert database.read(differences) == []


def test_an_upgrade_of_a_new_schema_changes_nothing(database: Database) -> None:
    database.write(lambda connection: connection.execute(OFFSETS.insert(), ROW))

    database.upgrade()

    assert database.read(lambda connection: connection.execute(sa.select(OFFSETS.c.topic)).scalars().all()) == [
        "events"
    ]


def test_processes_that_upgrade_at_once_do_it_once(database_url: str) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def upgrade() -> None:
        database = Database.open(database_url)
        start.wait()
        try:
            database.upgrade()
        except Exception as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(OFFSETS.insert(), ROW)
        raise LookupError("after the write")

    with pytest.raises(LookupError):
        database.write(work)

    assert (
        database.read(lambda connection: connection.execute(sa.select(sa.func.count(OFFSETS.c.topic))).scalar())
        == 0
    )


def test_writers_that_read_first_lose_no_update(database: Database) -> None:
    """Each adds one after reading: on PostgreSQL with the row locked, on SQLite as the only writer."""
    database.write(lambda connection: connection.execute(OFFSETS.insert(), ROW))

    def add(connection: sa.Connection) -> None:
        known = connection.execute(sa.select(OFFSETS.c.next_offset).with_for_update()).scalar_one()
        connection.execute(OFFSETS.update().values(next_offset=known + 1))

    threads = [threading.Thread(target=lambda: [database.write(add) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = database.read(lambda connection: connection.execute(sa.select(OFFSETS.c.next_offset)).scalar())
    assert found == 100


async def test_transactions_run_beside_the_event_loop(database: Database) -> None:
    await database.async_write(lambda connection: connection.execute(OFFSETS.insert(), ROW))

    counted = await database.async_read(lambda connection: connection.execute(sa.select(OFFSETS)).all())

    assert len(counted) == 1


def test_a_database_in_memory_is_shared_by_threads() -> None:
    database = Database.open("sqlite://")
    database.upgrade()
    thread = threading.Thread(
        target=lambda: database.write(lambda connection: connection.execute(OFFSETS.insert(), ROW))
    )
    thread.start()
    thread.join()

    assert len(database.read(lambda connection: connection.execute(sa.select(OFFSETS)).all())) == 1
    database.close()


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", ""])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="ANABRANCH_DATABASE_URL"):
        Database.open(url)


def test_a_server_that_does_not_respond_is_named_with_the_fix() -> None:
    database = Database.open("postgresql://someone:secret@127.0.0.1:1/history")

    with pytest.raises(ServerUnavailable, match="Check that the server runs") as raised:
        database.read(lambda connection: connection.execute(sa.text("SELECT 1")))

    assert "secret" not in str(raised.value)
    database.close()


def test_a_file_in_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}")

    with pytest.raises(ServerUnavailable, match="Check the folder"):
        database.upgrade()
    database.close()


def test_work_goes_on_after_a_restart_of_the_server() -> None:
    try:
        server = postgres_node()
    except ServerUnavailableError as missing:
        pytest.skip(str(missing))
    server.start()
    database = Database.open(server.address)
    try:
        database.upgrade()
        server.kill()
        with pytest.raises(ServerUnavailable):
            database.read(lambda connection: connection.execute(sa.select(OFFSETS)).all())
        server.start()
        assert database.read(lambda connection: connection.execute(sa.select(OFFSETS)).all()) == []
    finally:
        database.close()
        server.stop()
