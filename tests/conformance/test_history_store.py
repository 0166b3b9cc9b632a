"""The history on SQLite and PostgreSQL: rows, terms and offsets change together, for the present owner only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from history_databases import only, project, rows
from history_records import history_log

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_store import SqlHistoryStore
from anabranch.adapters.sql.history_tables import AUDIT, OFFSETS, TERMS
from anabranch.core.errors import Fenced
from anabranch.ports.history import HistoryPosition, HistoryWrites
from anabranch.runtime.process.clock import SystemClock

TOPIC = "t.events"


@pytest.fixture
def store(database: Database) -> SqlHistoryStore:
    return SqlHistoryStore(database, is_shared=True)


def _writes(offset: int, actor: str = "ann") -> HistoryWrites:
    row: dict[str, Any] = dict.fromkeys(column.name for column in AUDIT.columns)
    row |= {"partition": 0, "offset": offset, "time": 1.0, "actor": actor, "detail": "a \x00 character"}
    return HistoryWrites({"history_audit": [row]})


async def _owned(store: SqlHistoryStore, incarnation: str = "1") -> HistoryPosition:
    return await store.take_over(TOPIC, 0, incarnation)


async def test_a_new_partition_starts_at_its_beginning(store: SqlHistoryStore) -> None:
    position = await _owned(store)

    assert (position.epoch, position.next_offset) == (1, 0)


async def test_rows_and_offset_are_written_together(store: SqlHistoryStore, database: Database) -> None:
    position = await store.write(await _owned(store), 3, _writes(2), 7.0, 8.0)

    assert position.next_offset == 3
    assert [row["detail"] for row in only(database, AUDIT)] == ["a  character"]
    offset = only(database, OFFSETS)[0]
    assert (offset["next_offset"], offset["record_time"], offset["caught_up_at"]) == (3, 7.0, 8.0)
    assert (await _owned(store)).next_offset == 3


async def test_a_row_with_the_same_key_is_replaced(store: SqlHistoryStore, database: Database) -> None:
    position = await store.write(await _owned(store), 3, _writes(2), 7.0, 8.0)
    await store.write(position, 4, _writes(2, "bob"), 7.0, 8.0)

    assert [row["actor"] for row in only(database, AUDIT)] == ["bob"]


async def test_a_write_that_was_committed_may_be_repeated(store: SqlHistoryStore, database: Database) -> None:
    """The connection was lost at the end of the transaction, so its caller does not know that it was committed."""
    position = await _owned(store)
    await store.write(position, 3, _writes(2), 7.0, 8.0)

    assert (await store.write(position, 3, _writes(2, "bob"), 7.0, 8.0)).next_offset == 3
    assert [row["actor"] for row in only(database, AUDIT)] == ["ann"]


async def test_an_earlier_owner_writes_nothing(store: SqlHistoryStore, database: Database) -> None:
    zombie = await _owned(store)
    owner = await _owned(store)

    with pytest.raises(Fenced):
        await store.write(zombie, 3, _writes(2), 7.0, 8.0)

    assert only(database, AUDIT) == []
    assert (await store.write(owner, 1, _writes(0), 7.0, 8.0)).next_offset == 1


async def test_a_zombie_that_has_read_as_far_as_the_owner_writes_nothing(
    store: SqlHistoryStore, database: Database
) -> None:
    """The offsets agree, and only the epoch tells the two apart."""
    zombie = await _owned(store)
    owner = await store.write(await _owned(store), 3, _writes(2), 7.0, 8.0)

    with pytest.raises(Fenced):
        await store.write(replace(zombie, next_offset=owner.next_offset), 5, _writes(4), 7.0, 8.0)
    with pytest.raises(Fenced):
        await store.write(replace(zombie, next_offset=0), 3, _writes(2, "zombie"), 7.0, 8.0)

    assert [row["actor"] for row in only(database, AUDIT)] == ["ann"]


async def test_a_failed_row_leaves_neither_rows_nor_offset(store: SqlHistoryStore, database: Database) -> None:
    position = await _owned(store)
    broken = _writes(2)
    broken.rows["history_audit"].append(broken.rows["history_audit"][0] | {"offset": 3, "time": None})

    with pytest.raises(sa.exc.IntegrityError):
        await store.write(position, 4, broken, 7.0, 8.0)

    assert only(database, AUDIT) == []
    assert only(database, OFFSETS)[0]["next_offset"] == 0


async def test_terms_are_removed_and_added(store: SqlHistoryStore, database: Database) -> None:
    def term(name: str) -> dict[str, Any]:
        return {"term": name, "ordered_at": 1.5, "run_id": "r"}

    first = HistoryWrites(added_terms=[term("a"), term("b")])
    position = await store.write(await _owned(store), 1, first, 7.0, 8.0)
    await store.write(
        position, 2, HistoryWrites(removed_terms=[term("a")], added_terms=[term("b"), term("c")]), 1, 1
    )

    assert [row["term"] for row in only(database, TERMS)] == ["b", "c"]


async def test_another_incarnation_of_the_topic_starts_at_its_beginning(store: SqlHistoryStore) -> None:
    await store.write(await _owned(store), 3, _writes(2), 7.0, 8.0)

    assert (await _owned(store, "2")).next_offset == 0


async def test_both_databases_have_the_same_history(database: Database) -> None:
    clock = SystemClock()
    log, reference = await history_log(clock), Database.open("sqlite://")
    reference.upgrade()
    await project(log, clock, reference)
    await project(log, clock, database)

    assert rows(database) == rows(reference)
    reference.close()
