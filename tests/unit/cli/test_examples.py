"""Every example is in the table of its folder, and runs with the command in it."""

from __future__ import annotations

import re
import runpy
import shlex
import sys

import pytest
from doc_blocks import blocks_of
from source_tree import ROOT

from anabranch.cli.main import main

FOLDER = ROOT / "examples"
_ROW = re.compile(r"^\| (`[^|]+) \| [^|]+ \| `([^`]+)` \|$", re.MULTILINE)
TABLE = [
    (re.findall(r"`([^`]+)`", files), command)
    for files, command in _ROW.findall((FOLDER / "README.md").read_text())
]

PRINTED = {
    "from_python.py": "sum 338350, largest 10000",
    "from_python_steps.py": "delivery of 9f3c2ab41d: completed",
    "from_python_functions.py": "30 letters, longest 'Dear Barbara', size 13, greeting none",
}


@pytest.mark.parametrize("command", [pytest.param(command, id=command.split()[-3:][0]) for _, command in TABLE])
def test_an_example_runs_by_its_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    words = shlex.split(command)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    program, *arguments = words

    if program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
        assert PRINTED[arguments[0]] in capsys.readouterr().out
    else:
        assert main(arguments) == 0
        assert " completed in " in capsys.readouterr().err


def test_the_table_lists_exactly_the_existing_files() -> None:
    named = {name for files, _ in TABLE for name in files}

    assert named == {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".yaml")}


def test_the_guide_on_llm_agents_shows_the_example() -> None:
    shown = {block.title: block.text for block in blocks_of(ROOT / "docs" / "how-to" / "llm-agents.md")}

    for name in ("assistant.py", "assistant.yaml"):
        assert (FOLDER / name).read_text(encoding="utf-8") == shown[name]
