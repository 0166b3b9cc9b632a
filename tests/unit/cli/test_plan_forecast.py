"""`anabranch plan --forecast`: what it reads, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch.cli.commands.plan import plan, plan_document
from anabranch.cli.commands.plan_forecast import ForecastOptions, forecast_lines, measurements_of
from anabranch.cli.render.tables import Form
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.settings import Settings

MEASURED = {"version": 1, "latency": 0, "agents": {"echo": {"attempts": 9, "seconds": 2, "usd": 0.5}}}
STARTED = {"type": "task.started", "time": "2026-01-01T00:00:00Z", "run_id": "r", "group": "g", "task": "t"}
ENDED = STARTED | {"type": "task.completed", "time": "2026-01-01T00:00:05Z"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    wanted = task("t", expansion_config=array([1, 2, 3, 4]))
    path.write_text(json.dumps(request(wanted, budget={"usd": 1}, deadline="2030-01-01T00:00:03Z",
                                       not_before="2030-01-01T00:00:00Z")))  # fmt: skip
    return str(path)


def measured_file(folder: Path, text: str) -> Path:
    path = folder / "measured"
    path.write_text(text)
    return path


def found_in(file: str, options: ForecastOptions, **settings: Any) -> dict[str, Any]:
    document = plan_document(file, Settings(**settings), expand=False, forecast=options)
    return document["forecast"]  # type: ignore[no-any-return]


def test_it_uses_the_measurements_the_slots_and_the_workers(file: str, tmp_path: Path) -> None:
    measured = measured_file(tmp_path, json.dumps(MEASURED))

    one = found_in(file, ForecastOptions(1, (measured,)), concurrency=2)
    two = found_in(file, ForecastOptions(2, (measured,)), concurrency=2)

    assert (one["seconds"]["p50"], two["seconds"]["p50"]) == (4, 2)
    assert list(forecast_lines(one)) == [
        "Forecast with 1 worker of 2 slots, from 200 simulated runs:",
        "  ends after 4s",
        "  the deadline 2030-01-01T00:00:03Z holds in 0% of runs; needs 2 workers for 95%",
        "  costs 2 USD",
        "  makes 4 attempts",
        "  the budget of run holds in 0% of runs",
        "  50% of the time: work of g/t",
        "  50% of the time: waiting for worker slots",
        "  workers that it could keep busy: 2",
        "    with 2: 2s",
    ]


def test_it_uses_the_events_of_earlier_runs(file: str, tmp_path: Path) -> None:
    events = measured_file(tmp_path, f"{json.dumps(STARTED)}\n\n{json.dumps(ENDED)}\n")

    assert found_in(file, ForecastOptions(1, (events,)), concurrency=4)["seconds"]["p50"] == pytest.approx(
        5, abs=0.1
    )


def test_without_measurements_it_says_what_it_assumed(file: str) -> None:
    assert found_in(file, ForecastOptions())["assumptions"] == [
        "g/t: nothing was measured, and it is counted as taking no time"
    ]


def test_it_is_printed_below_the_plan(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert plan(file, Settings(), form=Form.TABLE, expand=False, forecast=ForecastOptions()) == 0

    assert "Forecast with 1 worker of 64 slots" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "line 1 is not JSON"),
        ("[]", "line 1 is neither measurements nor an event"),
        ("{}", "is not an event"),
        ('{"version": 1, "agents": 3}', "agents is not an object"),
    ],
)
def test_files_that_are_neither_are_refused_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=message):
        measurements_of([measured_file(tmp_path, text)])


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot read"):
        measurements_of([tmp_path / "missing"])
