"""`history export` and `history measurements`, over a history that a projector has written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from history_databases import project
from history_records import NAMES, history_log

from anabranch.adapters.sql.database import Database
from anabranch.cli.commands.history import export_history, show_measurements
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings that name a database with a history."""
    url, clock = f"sqlite:///{tmp_path / 'history.db'}", SystemClock()
    database = Database.open(url)
    await project(await history_log(clock), clock, database)
    yield Settings(database_url=url, prefix=NAMES.prefix)
    database.close()


def _lines(file: Path) -> dict[str, Any]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return {each["run"]["run_id"]: each for each in found}


async def test_an_export_has_a_line_for_each_run(settings: Settings, tmp_path: Path) -> None:
    assert await export_history(settings, tmp_path / "out.jsonl", condition=None) == 0

    found = _lines(tmp_path / "out.jsonl")
    assert set(found) == {"wide-0", "cancelled-0", "waiting-0", "looping-0"}
    waiting = found["waiting-0"]
    assert waiting["run"]["status"] == "completed"
    assert [task["task"] for task in waiting["tasks"]] == ["ask", "try"]
    assert [attempt["status"] for attempt in waiting["attempts"]] == ["failed", "completed"]
    assert [wait["ended_by"] for wait in waiting["waits"]] == ["approved"]
    assert [decision["by"] for decision in waiting["decisions"]] == ["ann", "bob"]


async def test_an_export_may_be_filtered(settings: Settings, tmp_path: Path) -> None:
    await export_history(settings, tmp_path / "out.jsonl", condition="labels.team == 'b'")

    assert set(_lines(tmp_path / "out.jsonl")) == {"looping-0"}


async def test_measurements_have_durations_rates_and_costs(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_measurements(settings, name="release", since=None)

    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["tasks"]["g/try"] == {
        "attempts": 2,
        "failure_rate": 0.5,
        "seconds": [7.0],
        "failed_seconds": [2.0],
        "usd": [0.5],
        "tokens": [7.0],
        "errors": {"OSError": 1.0},
    }


async def test_without_a_database_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ANABRANCH_DATABASE_URL"):
        await export_history(Settings(), tmp_path / "out", condition=None)
