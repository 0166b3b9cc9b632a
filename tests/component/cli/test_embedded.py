"""The command on a whole system in this process: the examples, the demo, and how runs end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli.main import main

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(autouse=True)
def _in_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["run", *arguments, "--embedded", "--json"])
    return code, json.loads(capsys.readouterr().out)


def request_file(folder: Path, *tasks: dict[str, Any]) -> str:
    file = folder / "request.json"
    file.write_text(json.dumps({"task_groups": [{"name": "g", "tasks": list(tasks)}]}))
    return str(file)


def test_the_examples_complete(capsys: pytest.CaptureFixture[str]) -> None:
    hello = run(capsys, "hello.yaml")
    words = run(capsys, "words.yaml", "--agents", "word_agents")
    drill = run(capsys, "drill.yaml")

    assert [code for code, _ in (hello, words, drill)] == [0, 0, 0]
    assert hello[1]["results"]["letter"]["lines"][0] == "Hello Ada, you are number 0"
    assert words[1]["results"]["tops"][0]["words"]["the"] == 5
    assert drill[1]["results"]["report"] == {
        "patience": "worth the wait",
        "tolerated": ["fine", "fine", None, "fine", "fine"],
    }
    assert drill[1]["executions"] == {"total": 7, "completed": 6, "failed": 1, "skipped": 0}


def test_a_failed_run_exits_with_1_and_keeps_the_other_results(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = {"name": "bad", "agent": "fail", "result_keys": ["x"], "inputs": {"message": "no way"}}
    good = {"name": "good", "agent": "echo", "result_keys": ["y"], "message_template": "hi"}

    code, document = run(capsys, request_file(tmp_path, bad, good))

    assert (code, document["status"], document["results"]) == (1, "failed", {"y": "hi"})
    assert [failure["message"] for failure in document["failures"]] == ["no way"]


def test_a_run_over_its_timeout_exits_with_3_and_writes_its_events(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slow = {"name": "slow", "agent": "sleep", "result_keys": ["x"], "inputs": {"seconds": 60}}
    events = tmp_path / "events.jsonl"

    code, document = run(capsys, request_file(tmp_path, slow), "--timeout", "200ms", "--events-file", str(events))

    assert (code, document["status"]) == (3, "timed_out")
    written = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["seq"] for event in written] == list(range(1, len(written) + 1))
    assert (written[0]["type"], written[-1]["type"]) == ("run.accepted", "run.timed_out")


def test_an_unknown_agent_is_refused_where_the_registry_is_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, document = run(capsys, request_file(tmp_path, {"name": "t", "agent": "ech", "result_keys": ["x"]}))

    assert (code, document["status"]) == (2, "rejected")
    assert [error["code"] for error in document["errors"]] == ["unknown_agent"]


def test_large_results_are_resolved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sequence = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 1, "end": 3000}}}}
    wide = {
        "name": "wide",
        "agent": "echo",
        "inputs": {"n": "{n}", "padding": "x" * 50},
        "expansion_config": sequence,
        "result_keys": ["x"],
    }

    code, document = run(capsys, request_file(tmp_path, wide))

    assert (code, [item["n"] for item in document["results"]["x"]]) == (0, list(range(1, 3001)))


def test_the_demo_ends_by_itself_and_says_what_to_try_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.cli.demo_job.MAX_FILES", 60)

    code = main(["demo"])

    printed = capsys.readouterr()
    assert code == 0
    assert "60 files" in printed.out
    assert "What to try next" in printed.out
    assert "analyse/analyse: completed 60 of 60 members" in printed.err


NOISY = """
import os
import sys

from anabranch import agent

print("a module's noise")
STDOUT = sys.stdout


@agent("noisy")
def noisy(task):
    print("an agent's noise")
    STDOUT.write("written through a reference")
    os.system("echo the noise of a program")
    return "quiet"
"""


@pytest.mark.parametrize("command", [["plan"], ["run", "--embedded"]])
def test_standard_output_has_only_documents_whatever_agents_print(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    module = f"noisy_{command[0]}_agents"
    (tmp_path / f"{module}.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    request = request_file(tmp_path, {"name": "t", "agent": "noisy", "result_keys": ["x"]})

    code = main([*command, request, "--agents", module, "--json"])

    out, err = capfd.readouterr()
    assert (code, json.loads(out).keys() >= {"warnings"}) == (0, True)
    assert "a module's noise" in err
    assert ("the noise of a program" in err) == (command[0] == "run")


AGENTS_THAT_FAIL = """
from anabranch import Task, agent


def look_up(number):
    try:
        return {}[number]
    except KeyError as error:
        raise ValueError(f"there is no {number}") from error


@agent("looks-up")
def looks_up(task: Task):
    return look_up(task.index or 0)


@agent("looks-up-later")
async def looks_up_later(task: Task):
    return look_up(7)
"""


def test_a_failure_has_the_traceback_of_its_agent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_agents.py").write_text(AGENTS_THAT_FAIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    events = tmp_path / "events.jsonl"
    many = {"name": "many", "agent": "looks-up", "result_keys": ["x"]}
    many["expansion_config"] = {"type": "array", "array_mapping": {"item": [1, 2, 3]}}
    later = {"name": "later", "agent": "looks-up-later", "result_keys": ["y"]}

    arguments = [request_file(tmp_path, many, later), "--agents", "failing_agents", "--events-file", str(events)]
    code = main(["run", *arguments, "--embedded", "--json"])
    printed = capsys.readouterr()

    document = json.loads(printed.out)
    tracebacks = {failure["member"]: failure["traceback"] for failure in document["failures"]}
    assert code == 1
    assert set(tracebacks) == {"many_1", "many_2", "many_3", "later"}
    for member, agent in (("many_2", "looks_up"), ("later", "looks_up_later")):
        frames = [line for line in tracebacks[member].splitlines() if line.startswith("  File ")]
        assert all("failing_agents.py" in frame for frame in frames)
        assert any(frame.endswith(f"in {agent}") for frame in frames)
        assert "direct cause" in tracebacks[member]
    assert tracebacks["many_2"].rstrip().endswith("ValueError: there is no 1")
    written = [json.loads(line) for line in events.read_text().splitlines()]
    failed = [event for event in written if event["type"] == "task.failed" and event["index"]]
    shown = {event["index"]: event["traceback"] for event in failed}
    assert shown == {1: tracebacks["many_2"], 2: tracebacks["many_3"]}
    # People see one traceback of each kind
    assert printed.err.count("there is no 0") == 2
    assert printed.err.count("    Traceback (most recent call last):") == 2 * len(("many", "later"))
