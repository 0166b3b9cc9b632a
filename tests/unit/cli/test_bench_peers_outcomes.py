"""The comparison with peers counts only right outcomes: a lost task, a wrong number of results or a failing client
is reported, and nothing is measured. The clients run for real, with an app of no library."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from peers.measures import FANOUT, JOIN_LAG, RUNS, SINGLE, Case, Measure
from peers.measuring import Measuring
from peers.processes import Broken, Client, OverLimit, Process, idle_seconds
from peers.systems import (
    APPS,
    Peer,
    Servers,
    Workers,
    all_systems,
    bench_arguments,
    bench_figures,
    measured_by_client,
)

APP = """
    import asyncio, sys, time
    from driving import after, drive, in_tasks, in_threads, total

    calls = 0
    def run():
        global calls
        calls += 1
        return {outcome}

    async def later(value=None):
        await asyncio.sleep(0)
        return run() if value is None else value

    if {asynchronous}:
        with asyncio.Runner() as runner:
            drive(in_tasks(runner), later, later, lambda: later(1))
    else:
        drive(in_threads(2), lambda count: count, run, lambda: 1)
"""
RIGHT = "total([after([after([after([])] * 3)] * 3)] * 3)"
WARM_RUNS = 2


def measured(
    folder: Path, outcome: str, case: Case, limit: float = 20.0, asynchronous: bool = False
) -> dict[str, float]:
    app = folder / "app.py"
    app.write_text(textwrap.dedent(APP).format(outcome=outcome, asynchronous=asynchronous))
    command = [sys.executable, str(app), case.measure.name, str(case.size), str(case.count)]
    environ = {**os.environ, "PYTHONPATH": str(APPS), "PEER_LIMIT_SECONDS": f"{limit:g}"}
    return measured_by_client(command, environ, [], case, limit)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("case", [Case(RUNS, 2, 6), Case(SINGLE, 1, 4), Case(FANOUT, 30)])
def test_right_outcomes_are_measured(tmp_path: Path, case: Case, asynchronous: bool) -> None:
    figures = measured(tmp_path, RIGHT, case, asynchronous=asynchronous)

    assert list(figures) == [column.name for column in case.measure.columns]
    assert all(value >= 0 for value in figures.values())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_wrong_number_of_results_is_reported(tmp_path: Path, asynchronous: bool) -> None:
    wrong = f"6 if calls == {WARM_RUNS + 3} else {RIGHT}"

    with pytest.raises(Broken, match="6 of 9 tasks were joined"):
        measured(tmp_path, wrong, Case(RUNS, 2, 6), asynchronous=asynchronous)


def test_a_wrong_number_of_results_in_the_warm_up_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="8 of 9 tasks were joined"):
        measured(tmp_path, "8", Case(RUNS, 2, 6))


def test_a_lost_task_is_over_the_limit_and_says_how_much_ended(tmp_path: Path) -> None:
    lost = f"time.sleep(60) if calls == {WARM_RUNS + 3} else {RIGHT}"

    with pytest.raises(OverLimit, match="5 of 6 ended"):
        measured(tmp_path, lost, Case(RUNS, 2, 6), limit=1.0)


def test_a_lost_task_of_the_warm_up_is_over_the_limit_too(tmp_path: Path) -> None:
    with pytest.raises(OverLimit, match=f"0 of {WARM_RUNS} ended"):
        measured(tmp_path, "time.sleep(60)", Case(RUNS, 2, 6), limit=0.5)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_task_without_a_result_of_the_stage_before_changes_the_total(stage: int) -> None:
    """The arithmetic of apps/driving.py: each stage needs all three results of the one before."""
    sys.path.insert(0, str(APPS))
    try:
        from driving import after, total
    finally:
        sys.path.remove(str(APPS))

    def values(lost: int) -> list[int]:
        found: list[int] = []
        for number in (1, 2, 3):
            found = [after(found)] * (2 if number == lost else 3)
        return found

    assert total(values(0)) == 9
    assert total(values(stage)) != 9


def test_a_client_that_fails_is_reported_with_its_error(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"FileNotFoundError: .*no such queue"):
        measured(tmp_path, "open('no such queue')", Case(RUNS, 2, 6))


def test_a_client_that_ends_before_it_is_ready_is_reported_with_its_output(tmp_path: Path) -> None:
    with (
        Client([sys.executable, "-c", "import no_such_library"], dict(os.environ), tmp_path) as client,
        pytest.raises(Broken, match="No module named"),
    ):
        client.await_ready()


def test_workers_that_have_ended_are_reported(tmp_path: Path) -> None:
    with Process([sys.executable, "-c", ""], dict(os.environ), tmp_path, tmp_path / "log") as process:
        process.wait()

        with pytest.raises(Broken, match="a worker has ended"):
            idle_seconds([process.pid])


def test_a_wrong_outcome_has_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(Peer):
        def __init__(self) -> None:
            super().__init__("Wrong", "wrong", "", [sys.executable, "-c", "input()"], tmp_path)

        def measure(self, workers: Workers, case: Case, limit: float) -> dict[str, float]:
            return measured(tmp_path, "8", case)

    measuring = Measuring(Servers("", ""), tmp_path, [Case(RUNS, 2, 6)], 20.0)
    measuring.repeat(Wrong())

    [figure] = measuring.figures([Wrong()])
    assert (figure.samples, figure.missing) == ((), "failed")
    assert "8 of 9 tasks were joined" in capsys.readouterr().err


# --- Anabranch's own bench ------------------------------------------------------------------------

SPREAD = {"p50_ms": 5.0, "p99_ms": 9.0, "min_ms": 1.0, "max_ms": 9.5}
DOCUMENTS: dict[Measure, dict[str, Any]] = {
    FANOUT: {"tasks": 200, "seconds": 0.5, "tasks_per_second": 400.0, **SPREAD},
    RUNS: {"runs": 6, "at_once": 2, "seconds": 0.5, "runs_per_second": 12.0, "cpu_ms": 3.0, **SPREAD},
    SINGLE: {"requests": 4, **SPREAD},
    JOIN_LAG: {"requests": 4, "members": 20, "clock": "agents", **SPREAD},
}
CASES = {
    FANOUT: Case(FANOUT, 200),
    RUNS: Case(RUNS, 2, 6),
    SINGLE: Case(SINGLE, 1, 4),
    JOIN_LAG: Case(JOIN_LAG, 20, 4),
}


@pytest.mark.parametrize("measure", CASES, ids=lambda each: each.name)
def test_the_figures_of_the_bench_are_taken(measure: Measure) -> None:
    figures = bench_figures(CASES[measure], DOCUMENTS[measure], "", 60.0)

    assert figures == {column.name: DOCUMENTS[measure][column.name] for column in measure.columns}


@pytest.mark.parametrize(
    ("measure", "changed", "error", "said"),
    [
        (RUNS, {"runs": 5}, Broken, "measured 5 runs instead of 6"),
        (FANOUT, {"tasks": 199}, Broken, "measured 199 tasks instead of 200"),
        (JOIN_LAG, {"clock": "events"}, Broken, "upper bound"),
        (RUNS, {"errors": [{"code": "failed"}]}, Broken, "stderr"),
        (RUNS, {"errors": [{"code": "timed_out"}]}, OverLimit, "did not end"),
        (FANOUT, {"seconds": 61.0}, OverLimit, "^$"),
    ],
)
def test_other_outcomes_of_the_bench_are_reported(
    measure: Measure, changed: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        bench_figures(CASES[measure], {**DOCUMENTS[measure], **changed}, "stderr", 60.0)


def test_a_bench_that_printed_nothing_is_reported() -> None:
    with pytest.raises(Broken, match="Traceback"):
        bench_figures(CASES[RUNS], {}, "Traceback", 60.0)


def test_processor_time_is_asked_of_all_services() -> None:
    assert bench_arguments(Case(RUNS, 50, 500), [7, 8]) == [
        "runs",
        "--at-once",
        "50",
        "--runs",
        "500",
        "--cpu",
        "7,8",
    ]


def test_all_systems_do_the_same_measures_but_for_the_join_lag(tmp_path: Path) -> None:
    by_name = {system.name: {measure.name for measure in system.measures} for system in all_systems(tmp_path, "")}

    assert by_name.pop("Anabranch") == {"fanout", "runs", "single", "join-lag"}
    assert set(map(frozenset, by_name.values())) == {frozenset({"fanout", "runs", "single"})}
