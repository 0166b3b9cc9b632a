"""The base installation, without extras: a client, agents, the Agency and TaskGroup need none of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from source_tree import ROOT

from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.extras import EXTRAS, needs_extra

SUPPORT = Path(__file__).parents[1] / "support"
REQUEST = "task_groups: [{name: g, tasks: [{name: a, agent: echo, result_keys: [a]}]}]"


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(SUPPORT), "PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", "without_extras", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_request_is_planned_and_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "request.yaml").write_text(REQUEST)

    planned = command("plan", "request.yaml", cwd=tmp_path)
    ran = command("run", "request.yaml", "--embedded", cwd=tmp_path)

    assert planned.returncode == 0, planned.stderr
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("gateway",), "gateway"),
        (("eventmanager",), "eventmanager"),
        (("agency", "--health-port", "18993"), "telemetry"),
        (("status", "r", "--url", "http://127.0.0.1:9"), "remote"),
    ],
)
def test_what_needs_an_extra_says_how_to_install_it(
    tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    ended = command(*arguments, cwd=tmp_path)

    assert ended.returncode != 0
    assert f"pip install 'anabranch[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_module_that_no_extra_installs_is_an_error_of_its_own() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs_extra("gateway", "the gateway"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401


def test_a_missing_module_of_an_extra_names_the_extra() -> None:
    with (
        pytest.raises(Misconfigured, match=r"the gateway: the Python package 'fastapi\.x' is not installed"),
        needs_extra("gateway", "the gateway"),
    ):
        raise ModuleNotFoundError(name="fastapi.x")


def test_the_extras_of_the_code_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"all"}
