"""The projector of the history is killed again and again: the next one continues, and loses or doubles no row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from history_databases import project, rows
from history_process import COPIES, FixedClock
from history_records import history_log
from waiting import eventually

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import OFFSETS

SUPPORT = Path(__file__).parent.parent / "support"
KILLS = 4
STEP = 150
"""Records between two kills."""


async def test_a_killed_projector_leaves_a_history_that_the_next_one_completes(database_url: str) -> None:
    database = Database.open(database_url)
    database.upgrade()
    try:
        for kill in range(1, KILLS + 1):
            with _start(database_url) as process:
                await _until_read(database, kill * STEP)
                process.send_signal(signal.SIGKILL)
                assert process.wait(30) == -signal.SIGKILL
        assert KILLS * STEP <= _read(database) < _total(), "the last kill came after the end"
        with _start(database_url) as process:
            assert process.wait(120) == 0
        expected, clock = Database.open("sqlite://"), FixedClock()
        expected.upgrade()
        await project(await history_log(clock, COPIES), clock, expected)
        assert rows(database) == rows(expected)
        expected.close()
    finally:
        database.close()


async def _until_read(database: Database, count: int) -> None:
    await eventually(lambda: _read(database) >= count, because="the projector made no progress")


def _start(url: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(SUPPORT), *sys.path])
    command = [sys.executable, "-m", "history_process", url]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)


def _read(database: Database) -> int:
    """The records that are projected."""
    total = sa.select(sa.func.coalesce(sa.func.sum(OFFSETS.c.next_offset), 0))
    return int(database.read(lambda connection: connection.execute(total).scalar_one()))


def _total() -> int:
    """About how many records there are: 31 for each copy."""
    return COPIES * 20
