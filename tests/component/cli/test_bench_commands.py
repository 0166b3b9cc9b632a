"""Every command of the bench on a whole system in this process, with tiny sizes. Figures are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anabranch.cli.main import main

SPREAD = ["p50_ms", "p99_ms", "min_ms", "max_ms"]


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        pytest.param(
            ["fanout", "--tasks", "500"],
            ["tasks", "seconds", "tasks_per_second", "p50_ms", "p99_ms"],
            id="fanout",
        ),
        pytest.param(["latency", "--requests", "3"], ["requests", *SPREAD], id="latency"),
        pytest.param(
            ["join-lag", "--requests", "2", "--members", "4"],
            ["requests", "members", "clock", *SPREAD],
            id="join-lag",
        ),
        pytest.param(
            ["workflows", "--tasks", "12", "--edges", "16", "--layers", "3", "--repeat", "1"],
            ["tasks", "edges", "members", "seconds", "tasks_per_second", "edges_per_second", "repeats"],
            id="workflows",
        ),
        pytest.param(
            ["runs", "--runs", "4", "--at-once", "2"],
            ["runs", "at_once", "seconds", "runs_per_second", "tasks_per_second", *SPREAD],
            id="runs",
        ),
        pytest.param(["runs", "--runs", "2", "--at-once", "1, 2"], ["levels"], id="runs at several numbers"),
        pytest.param(
            ["fairness", "--members", "40", "--runs", "2"],
            ["members", "seconds", "runs", "idle_p50_ms", *SPREAD],
            id="fairness",
        ),
        pytest.param(
            ["fanout", "--tasks", "6", "--wait", "1ms"],
            ["tasks", "seconds", "tasks_per_second", "p50_ms", "p99_ms"],
            id="waiting fanout",
        ),
        pytest.param(
            ["chain", "--chains", "1"],
            ["chains", "fanouts", "width", "members", *SPREAD, "stage_p50_ms"],
            id="chain",
        ),
    ],
)
def test_each_command_prints_its_figures_and_nothing_else(
    capsys: pytest.CaptureFixture[str], arguments: list[str], figures: list[str]
) -> None:
    code = main(["bench", *arguments, "--embedded", "--json"])

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (code, list(document)) == (0, figures)
    assert "Measuring on all services in this process" in printed.err
    for name, value in document.items():
        if isinstance(value, float):
            assert value > 0 or name == "min_ms", name


def test_without_json_a_plain_text_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "latency", "--requests", "3", "--embedded"])

    out = capsys.readouterr().out
    assert (code, out.isascii()) == (0, True)
    assert "one request, median" in out


def test_the_join_lag_of_an_embedded_system_is_measured_by_agents(capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "join-lag", "--requests", "1", "--members", "2", "--embedded", "--json"])

    assert json.loads(capsys.readouterr().out)["clock"] == "agents"


def test_without_its_agent_on_the_workers_the_bench_measures_events(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.cli.bench.command.STAMPERS", ())

    code = main(["bench", "join-lag", "--requests", "2", "--members", "3", "--embedded", "--json"])

    printed = capsys.readouterr()
    assert (code, json.loads(printed.out)["clock"]) == (0, "events")
    assert "times from events" in printed.err


def test_a_workflow_of_a_file_is_measured_with_the_agents_that_it_needs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bench_file_agents.py").write_text(
        'from anabranch import agent\n\n\n@agent("mine")\ndef mine(task):\n    return 1\n'
    )
    expansion = {"type": "array", "array_mapping": {"n": [1, 2, 3]}}
    tasks = [
        {"name": "a", "agent": "mine", "result_keys": ["x"], "expansion_config": expansion},
        {"name": "b", "agent": "mine", "result_keys": ["y"], "dependencies": ["x"]},
    ]
    (tmp_path / "mine.json").write_text(json.dumps({"task_groups": [{"name": "g", "tasks": tasks}]}))

    arguments = ["--file", "mine.json", "--agents", "bench_file_agents", "--repeat", "2"]
    code = main(["bench", "workflows", *arguments, "--embedded", "--json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [document[name] for name in ("tasks", "edges", "members")] == [2, 1, 4]
    assert len(document["repeats"]) == 2


def test_a_failed_run_is_no_measurement_and_has_a_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = {"name": "bad", "agent": "fail", "result_keys": ["x"], "inputs": {"message": "no way"}}
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"task_groups": [{"name": "g", "tasks": [task]}]}))

    code = main(["bench", "workflows", "--file", str(file), "--embedded", "--json"])

    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert (code, error["code"]) == (1, "failed")
    assert "no way" in error["message"]


def test_a_run_that_does_not_end_in_time_is_no_measurement(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = {"name": "slow", "agent": "sleep", "result_keys": ["x"], "inputs": {"seconds": 60}}
    file = tmp_path / "slow.json"
    file.write_text(json.dumps({"task_groups": [{"name": "g", "tasks": [task]}]}))

    arguments = ["--file", str(file), "--timeout", "300ms"]
    code = main(["bench", "workflows", *arguments, "--embedded", "--json"])

    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert (code, error["code"]) == (3, "timed_out")


def test_a_process_that_does_not_run_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "runs", "--cpu", "999999999", "--json"])

    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert (code, error["code"]) == (2, "misconfigured")
    assert "--cpu: there is no process 999999999 on this machine" in error["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["fanout", "--bytes", "--embedded"],
        ["chain", "--timeout", "soon"],
        ["fanout", "--wait", "soon", "--embedded"],
        ["workflows", "--edges", "1", "--embedded"],
        ["workflows", "--file", "no-such.json"],
        ["runs", "--runs", "0"],
        ["runs", "--at-once", "0"],
        ["runs", "--at-once", "1,many"],
        ["runs", "--cpu", "one"],
        ["runs", "--cpu", "1", "--embedded"],
    ],
)
def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err != ""
