"""Pipelines of other systems are converted by the command, planned, and run."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch import Task, agent
from anabranch.cli.main import main
from anabranch.core.pipelines.converter import PipelineConverter
from anabranch.core.yaml_documents import load_yaml
from anabranch.testing import system

WORKFLOW = """\
name: CI
on: push
env: {GREETING: hello}
jobs:
  build:
    runs-on: ubuntu-latest
    outputs: {version: "${{ steps.v.outputs.version }}"}
    steps:
      - uses: actions/checkout@v4
      - id: v
        run: echo "version=$(cat version.txt)" >> "$GITHUB_OUTPUT"
  test:
    needs: build
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        python: ["3.11", "3.12"]
        exclude: [{python: "3.12"}]
        include: [{python: "3.13"}]
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - id: say
        run: echo "said=$GREETING ${{ matrix.python }} for ${{ needs.build.outputs.version }}" >> "$GITHUB_OUTPUT"
  broken:
    needs: test
    runs-on: ubuntu-latest
    continue-on-error: true
    steps: [{run: exit 3}]
  report:
    needs: [test, broken]
    if: needs.build.outputs.version != '2' && always()
    runs-on: ubuntu-latest
    outputs: {state: "${{ steps.end.outcome }}"}
    steps:
      - id: end
        run: "true"
  skipped:
    needs: build
    if: needs.build.outputs.version == '2'
    runs-on: ubuntu-latest
    steps: [{run: exit 1}]
"""
PROGRAMS = {"executors": ("process",), "executor_commands": ("bash", "sh")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ci.yml").write_text(WORKFLOW.replace("needs: [test, broken]", "needs: [build, test, broken]"))
    return tmp_path


async def test_a_converted_workflow_runs_with_processes(folder: Path) -> None:
    converter = PipelineConverter(actions={"actions/checkout": "echo 1.2 > version.txt"})
    request = converter.convert(load_yaml((folder / "ci.yml").read_text())).required()

    async with system(**PROGRAMS) as running:
        result = await running.run(request)

    assert result.status == "completed", result.failures
    assert result.results["build"] == {"version": "1.2"}
    assert result.results["test"] == {"said": "hello 3.13 for 1.2"}
    assert {each["task"]: each["executions"] for each in result.costs["tasks"]}["test"] == 2
    assert result.results["report"] == {"state": "success"}
    assert "failed with exit code 3" in result.results["broken.error"]["message"]
    assert [(each["task"], each["reason"]) for each in result.skipped] == [("skipped", "condition")]


async def test_a_converted_canvas_runs_with_agents_of_the_names_of_its_tasks() -> None:
    @agent("shop.add")
    def add(task: Task) -> Any:
        return sum(task.inputs["args"])

    @agent("shop.total")
    def total(task: Task) -> Any:
        values, *others = task.inputs["args"]
        return sum(values) + sum(others)

    def sig(task: str, *args: Any, **fields: Any) -> dict[str, Any]:
        return {"task": task, "args": list(args), "kwargs": {}, "options": {}, "immutable": False, **fields}

    header = [
        sig("shop.add", 1, 1),
        {"task": "celery.chain", "kwargs": {"tasks": [sig("shop.add", 2), sig("shop.add", 3)]}},
    ]
    chord = {"task": "celery.chord", "kwargs": {"header": header, "body": sig("shop.total", 100)}}
    request = PipelineConverter().convert([chord, sig("shop.add", 1000)]).required()

    async with system(agents=[add, total]) as running:
        result = await running.run(request)

    assert result.status == "completed", result.failures
    assert 2 + (2 + 3) + 100 + 1000 in result.results.values()


def test_the_command_writes_a_request_that_can_be_planned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "ci.yml", "--action", "actions/checkout=:", "-o", "request.yaml"]) == 0
    assert main(["convert", "ci.yml", "--action", "actions/checkout@v4=:", "-o", "request.json"]) == 0
    assert load_yaml(Path("request.yaml").read_text()) == json.loads(Path("request.json").read_text())
    capsys.readouterr()

    assert main(["plan", "request.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"task_groups": 5, "tasks": 5, "executions": 6}


def test_the_command_reads_standard_input_and_prints_the_request(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas = json.dumps({"task": "add", "args": [1, "{x}"]})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(canvas.encode())))

    assert main(["convert", "-"]) == 0
    [task] = load_yaml(capsys.readouterr().out)["task_groups"][0]["tasks"]
    assert (task["agent"], task["inputs"]["args"]) == ("add", [1, "{{x}}"])


def test_an_error_names_the_file_and_the_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["convert", "ci.yml", "-o", "request.yaml"])

    assert (code, Path("request.yaml").exists()) == (2, False)
    printed = capsys.readouterr().err
    assert "ci.yml cannot be converted, 1 error" in printed
    assert "/jobs/build/steps/0/uses: the action 'actions/checkout@v4' is a program of GitHub" in printed
    assert main(["convert", "ci.yml", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["request"], document["errors"][0]["code"]) == (None, "not_supported")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--action", "actions/checkout"], "'actions/checkout' is not NAME=SCRIPT"),
        (
            ["--action", "actions/checkout=:", "-o", "missing/request.yaml"],
            "missing/request.yaml cannot be written",
        ),
        (["--from", "celery"], "a signature has the name of a `task`"),
    ],
)
def test_wrong_arguments_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["convert", "ci.yml", *arguments]) == 2
    assert said in capsys.readouterr().err
