"""The script of a converted job does in a shell what its steps do on a runner of GitHub."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anabranch.core.pipelines.converter import PipelineConverter
from anabranch.core.templates import render

SHELLS = [each for each in ("bash", "sh", "dash") if shutil.which(each)]


class Ended:
    """A job that has run: its exit code, what it printed, and its outputs."""

    def __init__(self, code: int, printed: str, outputs: Any) -> None:
        self.code = code
        self.lines = printed.splitlines()
        self.outputs = outputs


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _run(shell: str, folder: Path, steps: list[dict[str, Any]], context: Any = None, **job: Any) -> Ended:
    """Run the script of a job with the variables that its request gives it."""
    workflow = {"on": "push", "jobs": {"job": {"steps": steps, **job}}}
    request = PipelineConverter(actions={"a/hello": "echo hello $INPUT_WHO"}).convert(workflow).required()
    [task] = request["task_groups"][0]["tasks"]
    inputs = render(task["inputs"], {**request.get("context", {}), **(context or {})})
    output = folder / "output.json"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "ANABRANCH_OUTPUT": str(output),
    }
    done = subprocess.run(
        [shell, *inputs["command"][1:]],
        env=environment | inputs.get("env", {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = json.loads(output.read_text()) if output.exists() else None
    return Ended(done.returncode, done.stdout + done.stderr, found)


def test_steps_share_a_folder_an_environment_and_a_path(shell: str, tmp_path: Path) -> None:
    write = """
        mkdir bin; printf '#!/bin/sh\\necho tool' > bin/tool; chmod +x bin/tool
        echo "$PWD/bin" >> "$GITHUB_PATH"
        echo "WORD=it's \\"quoted\\" \\\\ text" >> "$GITHUB_ENV"
        { echo 'LINES<<END'; echo one; echo two; echo END; } >> "$GITHUB_ENV"
        echo "shared" > file
    """
    ended = _run(shell, tmp_path, [{"run": write}, {"run": 'tool; cat file; echo "$WORD"; echo "$LINES"'}])

    assert ended.code == 0
    assert ended.lines == ["tool", "shared", 'it\'s "quoted" \\ text', "one", "two"]


def test_outputs_are_the_result_of_the_job(shell: str, tmp_path: Path) -> None:
    make = r"""
        echo "version=1.2.3" >> "$GITHUB_OUTPUT"
        echo 'odd="a"\b	é' >> "$GITHUB_OUTPUT"
        { echo 'lines<<END'; echo one; echo two; echo END; } >> "$GITHUB_OUTPUT"
    """
    outputs = {
        "version": "v${{ steps.make.outputs.version }}",
        "odd": "${{ steps.make.outputs.odd }}",
        "lines": "${{ steps.make.outputs.lines }}",
        "missing": "${{ steps.make.outputs.missing }}",
        "fixed": "it's {fixed}",
    }
    ended = _run(shell, tmp_path, [{"id": "make", "run": make}], outputs=outputs)

    assert ended.outputs == {
        "version": "v1.2.3",
        "odd": '"a"\\b\té',
        "lines": "one\ntwo",
        "missing": "",
        "fixed": "it's {fixed}",
    }


def test_values_are_inserted_as_text_even_in_single_quotes(shell: str, tmp_path: Path) -> None:
    steps = [
        {"id": "a", "run": 'echo "v=x y" >> "$GITHUB_OUTPUT"'},
        {"run": "echo '${{ steps.a.outputs.v }}' \"${{ steps.a.outputs.v }}\" '${{ inputs.level }}' '{level}'"},
        {"run": "print('${{ steps.a.outputs.v }}')", "shell": "python"},
    ]
    ended = _run(shell, tmp_path, steps, {"inputs.level": "high"})

    assert ended.lines == ["x y x y high {level}", "x y"]


def test_a_value_cannot_run_as_a_command_of_the_script(shell: str, tmp_path: Path) -> None:
    step = {"run": 'echo "$NAME"', "env": {"NAME": "<${{ inputs.name }}>"}}
    ended = _run(shell, tmp_path, [step], {"inputs.name": "'; echo broken; $(echo broken) `echo broken`"})

    assert ended.lines == ["<'; echo broken; $(echo broken) `echo broken`>"]


def test_a_failed_step_skips_the_others_but_those_that_ask_for_it(shell: str, tmp_path: Path) -> None:
    steps = [
        {"id": "bad", "name": "Bad", "run": "exit 3"},
        {"id": "after", "run": "echo after"},
        {"run": "echo failed", "if": "failure()"},
        {"run": "echo always", "if": "always()"},
        {"run": "echo ${{ steps.bad.outcome }} ${{ steps.after.outcome }}", "if": "${{ !cancelled() }}"},
    ]
    ended = _run(shell, tmp_path, steps)

    assert ended.code == 1
    assert sorted(ended.lines) == sorted(
        ["step Bad failed with exit code 3", "failed", "always", "failure skipped"]
    )


def test_a_step_that_may_fail_does_not_fail_the_job(shell: str, tmp_path: Path) -> None:
    steps = [
        {"id": "bad", "run": "exit 3", "continue-on-error": True},
        {"run": "echo ${{ steps.bad.outcome }} ${{ steps.bad.conclusion }}"},
    ]
    ended = _run(shell, tmp_path, steps)

    assert ended.code == 0
    assert "failure success" in ended.lines


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("inputs.level == 'high'", True),
        ("inputs.level != 'high'", False),
        ("inputs.level == 'low' || steps.a.outputs.v == '1'", True),
        ("inputs.level == 'high' && !(steps.a.outputs.v == '1')", False),
        ("contains(inputs.level, 'ig') && startsWith(inputs.level, 'h') && endsWith(inputs.level, 'gh')", True),
        ("contains(inputs.level, '*')", False),
        ("steps.a.outputs.v", True),
        ("steps.a.outputs.none", False),
        ("inputs.off", False),
        ("env.LEVEL == '3'", True),
        ("true", True),
        (False, False),
    ],
)
def test_an_if_of_a_step_is_evaluated_while_the_job_runs(
    shell: str, tmp_path: Path, condition: Any, runs: bool
) -> None:
    steps = [{"id": "a", "run": 'echo "v=1" >> "$GITHUB_OUTPUT"'}, {"run": "echo runs", "if": condition}]
    ended = _run(shell, tmp_path, steps, {"inputs.level": "high", "inputs.off": False}, env={"LEVEL": 3})

    assert ended.code == 0
    assert ("runs" in ended.lines) is runs


def test_a_step_has_its_own_folder_variables_and_action(shell: str, tmp_path: Path) -> None:
    steps = [
        {"run": "mkdir sub"},
        {"run": "basename $PWD; echo $A", "working-directory": "sub", "env": {"A": "b c"}},
        {"run": "basename $PWD | grep -c sub; echo [$A]", "continue-on-error": True},
        {"uses": "a/hello@v1", "with": {"who": "you"}},
    ]
    ended = _run("bash", tmp_path, steps)

    assert ended.lines[:2] == ["sub", "b c"]
    assert "hello you" in ended.lines


def test_a_step_ends_at_its_timeout(shell: str, tmp_path: Path) -> None:
    ended = _run(shell, tmp_path, [{"run": "cat /dev/zero > /dev/null", "timeout-minutes": 0.01}])

    assert ended.code == 1
    assert any("exit code 124" in line for line in ended.lines)


def test_a_script_may_have_lines_that_look_like_the_end_of_a_step(shell: str, tmp_path: Path) -> None:
    ended = _run(shell, tmp_path, [{"run": "cat <<'END_OF_STEP_1'\nwithin\nEND_OF_STEP_1\n"}])

    assert ended.lines == ["within"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.none || inputs.word", "it's"),
        ("inputs.word || inputs.none", "it's"),
        ("inputs.none || inputs.nothing || 'last'", "last"),
        ("inputs.word == 'x' && 'same' || 'other'", "other"),
        ("inputs.word != 'x' && format('{0}, {{1}} {1}', inputs.word, 'a b') || 'other'", "it's, {1} a b"),
        ("!inputs.none", "true"),
        ("inputs.none && 'never'", ""),
        ("contains(inputs.word, 't') && inputs.no", "false"),
        ("(inputs.none || 'x') == 'x'", "true"),
        ("format('')", ""),
    ],
)
def test_operators_in_a_text_give_the_values_that_they_give_on_github(
    shell: str, tmp_path: Path, expression: str, value: str
) -> None:
    context = {"inputs.none": "", "inputs.nothing": "", "inputs.word": "it's", "inputs.no": "false"}
    step = {"run": 'echo "[${{ ' + expression + ' }}]"; echo "[$STEP]"; echo "[$JOB]"', "env": {}}
    step["env"] = {"STEP": "${{ " + expression + " }}"}
    ended = _run(shell, tmp_path, [step], context, env={"JOB": "${{ " + expression + " }}"})

    assert ended.lines == [f"[{value}]"] * 3


def test_operators_see_the_environment_of_their_step(shell: str, tmp_path: Path) -> None:
    step = {
        "run": "echo ${{ env.A || 'none' }} ${{ env.B || 'none' }}",
        "env": {"A": "of the step", "B": "${{ env.A || 'not yet' }}"},
    }
    when = {"run": "echo again", "if": "(env.A || 'none') == 'none' && always()"}
    ended = _run(shell, tmp_path, [step, when])

    assert ended.lines == ["of the step not yet", "again"]


def test_outputs_of_a_job_may_have_operators(shell: str, tmp_path: Path) -> None:
    steps = [{"id": "x", "run": 'echo "v=1" >> "$GITHUB_OUTPUT"'}]
    outputs = {"a": "${{ steps.x.outputs.v || 'none' }}", "b": "<${{ steps.x.outputs.w || 'none' }}>"}

    assert _run(shell, tmp_path, steps, outputs=outputs).outputs == {"a": "1", "b": "<none>"}


def test_an_action_that_is_left_out_needs_no_values(shell: str, tmp_path: Path) -> None:
    steps = [{"uses": "a/cache@v1", "with": {"key": "${{ hashFiles('lock') }}", "token": "${{ secrets.T }}"}}]
    workflow = {"on": "push", "jobs": {"job": {"steps": steps}}}

    assert PipelineConverter(actions={"a/cache": ":"}).convert(workflow).request is not None
    assert PipelineConverter(actions={"a/cache": "true"}).convert(workflow).request is None
