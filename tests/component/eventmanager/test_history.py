"""The projector of the history: rows of every table from a log in memory, in a database in memory or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from history_databases import only, project, projector, rows, until_read
from history_records import NAMES, events, history_log, looping_run
from waiting import eventually

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_store import SqlHistoryStore
from anabranch.adapters.sql.history_tables import (
    ATTEMPTS,
    AUDIT,
    DEAD_LETTERS,
    DECISIONS,
    FIRINGS,
    RUNS,
    SCHEDULES,
    TASKS,
    TERMS,
    WAITS,
)
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Outgoing
from anabranch.ports.history import HistoryPosition, HistoryWrites
from anabranch.runtime.process.clock import SystemClock
from anabranch_eventmanager.projection.history.folding import decode_state

CLOCK = SystemClock()


@pytest.fixture
def memory() -> Iterator[Database]:
    """A database in the memory of this process."""
    database = Database.open("sqlite://")
    database.upgrade()
    yield database
    database.close()


async def test_every_run_has_a_row_with_its_view(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    assert {row["run_id"]: row["status"] for row in only(memory, RUNS)} == {
        "cancelled-0": "cancelled",
        "looping-0": "cancelled",
        "waiting-0": "completed",
        "wide-0": "failed",
    }
    wide = only(memory, RUNS, run_id="wide-0")[0]
    assert (wide["name"], wide["labels"], wide["duration"], wide["failures"]) == ("demo", {"team": "a"}, 4.0, 3)
    assert wide["view"]["failure_count"] == 3
    assert " seven " in wide["words"]
    waiting = only(memory, RUNS, run_id="waiting-0")[0]
    assert (waiting["usd"], waiting["tokens"]) == (0.5, 7)


async def test_members_have_rows_only_if_failed_or_sampled(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    kept = only(memory, ATTEMPTS, run_id="wide-0", task="wide")
    failed = [row["index"] for row in kept if row["kept_because"] == "failed"]
    sampled = [row["index"] for row in kept if row["kept_because"] == "sample"]
    assert failed == [7, 998, 999]
    assert sampled == []  # their events name no attempt
    task = only(memory, TASKS, run_id="wide-0", task="wide")[0]
    assert (task["members"], task["completed"], task["failed"]) == (1000, 997, 3)


async def test_attempts_of_a_task_have_their_times_worker_and_error(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    first, second = only(memory, ATTEMPTS, run_id="waiting-0", task="try")
    assert (first["status"], first["worker"], first["started_at"], first["ended_at"]) == (
        "failed",
        "w-1",
        10.0,
        12.0,
    )
    assert (first["error_type"], first["message"]) == ("OSError", "disk  full")  # without the null character
    assert (second["status"], second["worker"], second["agent"]) == ("completed", "w-2", "builder")
    task = only(memory, TASKS, run_id="waiting-0", task="try")[0]
    assert (task["attempts_ended"], task["attempts_failed"], task["seconds"]) == (2, 1, 9.0)
    assert len(only(memory, ATTEMPTS, run_id="looping-0")) == 3


async def test_waits_end_and_decisions_are_kept(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    wait = only(memory, WAITS)[0]
    assert (wait["reason"], wait["since"], wait["ended_at"], wait["ended_by"]) == (
        "approval",
        10.0,
        15.0,
        "approved",
    )
    assert wait["approval"] == {"id": "a"}
    assert [row["by"] for row in only(memory, DECISIONS)] == ["ann", "bob"]


async def test_schedules_dead_letters_and_audit_have_rows(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    assert [row["type"] for row in only(memory, FIRINGS)] == [
        "schedule.fired",
        "schedule.missed",
        "schedule.paused",
    ]
    assert [(row["schedule"], row["paused"]) for row in only(memory, SCHEDULES)] == [("nightly", True)]
    letters = {row["code"]: row for row in only(memory, DEAD_LETTERS)}
    assert (letters["member_failed"]["agent"], letters["member_failed"]["reason"]) == ("builder", "seven")
    assert letters["undecodable"]["run_id"] is None
    assert [row["actor"] for row in only(memory, AUDIT)] == ["ann"]


async def test_rows_do_not_depend_on_how_the_log_is_read(memory: Database, tmp_path: Path) -> None:
    """Projected as records arrive, with a restart after each few, the history is the same as in one go."""
    await project(await history_log(CLOCK, 2), CLOCK, memory)
    pieces = Database.open(f"sqlite:///{tmp_path / 'pieces.db'}")
    log, published = await history_log(CLOCK, 0), events(2)[3:]
    for start in range(0, len(published), 5):
        await log.publish([Outgoing(NAMES.events, key, value) for key, value in published[start : start + 5]])
        await project(log, CLOCK, pieces)

    for table, expected in rows(memory).items():
        found = rows(pieces)[table]
        assert _comparable(found) == _comparable(expected), table
    pieces.close()


def _comparable(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [
        row
        | ({"state": _without_offsets(row["state"]), "view": None} if isinstance(row.get("state"), bytes) else {})
        for row in found
        if "offset" not in row
    ]


def _without_offsets(state: bytes) -> object:
    decoded = decode_state(state)
    decoded["run"] |= {"offset": None, "events_from": None}
    return decoded


async def test_terms_are_those_of_the_last_version_of_a_row(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)

    found = {(row["term"].replace("\x1f", "/"), row["run_id"]) for row in only(memory, TERMS)}
    assert ("label/team/a", "wide-0") in found
    assert ("word//seven", "wide-0") in found
    assert len({row["ordered_at"] for row in only(memory, TERMS, run_id="wide-0")}) == 1


async def test_a_topic_that_was_created_again_is_read_from_its_start(memory: Database) -> None:
    await project(await history_log(CLOCK), CLOCK, memory)
    other = await history_log(CLOCK, 0, life="b")
    await other.publish([Outgoing(NAMES.events, "later", value) for value in looping_run("later")])
    await project(other, CLOCK, memory)

    assert only(memory, RUNS, run_id="later")[0]["status"] == "cancelled"
    assert len(only(memory, RUNS)) == 5


class AbsentStore(SqlHistoryStore):
    """A database that does not respond for a while."""

    is_away = True

    async def prepare(self) -> None:
        self._check()
        await super().prepare()

    async def states(self, run_ids: Sequence[str]) -> Mapping[str, bytes]:
        self._check()
        return await super().states(run_ids)

    async def write(
        self, position: HistoryPosition, next_offset: int, writes: HistoryWrites, record_time: float, now: float
    ) -> HistoryPosition:
        self._check()
        return await super().write(position, next_offset, writes, record_time, now)

    def _check(self) -> None:
        if self.is_away:
            raise ServerUnavailable("the database", "nowhere", "it is away")


async def test_while_the_database_is_away_health_says_so_and_records_wait(
    memory: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch_eventmanager.history_projector.RETRY_SECONDS", 0.01)
    log, store = await history_log(CLOCK), AbsentStore(memory, is_shared=True)
    async with projector(log, CLOCK, store) as running:
        await eventually(lambda: "it is away" in (running.unhealthy_reason() or ""))
        store.is_away = False
        await until_read(log, memory)
        assert running.unhealthy_reason() is None
        store.is_away = True
        await log.publish([Outgoing(NAMES.events, "later", value) for value in looping_run("later")])
        await eventually(lambda: "it is away" in (running.unhealthy_reason() or ""))
        store.is_away = False
        await until_read(log, memory)

    assert only(memory, RUNS, run_id="later")


async def test_a_bug_for_one_record_leaves_out_that_record_only(
    memory: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anabranch_eventmanager.projection.history import folding

    real = folding.apply_attempt

    def broken(state: object, run_id: str, *more: object) -> object:
        if run_id == "waiting-0":
            raise ZeroDivisionError
        return real(state, run_id, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(folding, "apply_attempt", broken)
    await project(await history_log(CLOCK), CLOCK, memory)

    assert {row["run_id"] for row in only(memory, RUNS)} >= {"wide-0", "looping-0"}
    assert only(memory, ATTEMPTS, run_id="looping-0")
