"""Workflows whose agents are processes: a repository is cloned, checked, tested, built, deployed and verified."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from anabranch.tasks import SyncTaskAPI, TaskFactory, TaskStatus, WorkflowBuilder, WorkflowStatus

SECONDS = 90
"""Longer than a slow machine takes for the processes of a workflow; reached only by a fault."""

STEPS = {
    "lint": "code_analysis",
    "test": "testing",
    "build": "code_generation",
    "deploy": "deployment",
    "verify": "monitoring",
}

SCRIPT = dedent(
    """
    import json, os, pathlib, subprocess, sys, tempfile, zipfile

    step, deployed = sys.argv[1], pathlib.Path(sys.argv[2])
    given = json.loads(pathlib.Path(os.environ["ANABRANCH_INPUT"]).read_text())
    checkout = tempfile.mkdtemp()
    subprocess.run(["git", "clone", "--quiet", "--", given["repository_url"], checkout], check=True)
    os.chdir(checkout)

    def python(*arguments):
        subprocess.run([sys.executable, *arguments], check=True)

    def build(target):
        with zipfile.ZipFile(target, "w") as archive:
            archive.write("adder.py")

    result = {}
    if step == "lint":
        python("-m", "py_compile", "adder.py")
        result = {"lines": len(pathlib.Path("adder.py").read_text().splitlines())}
    elif step == "test":
        python("-m", "unittest", "-q")
        result = given.get("test_type", "unit") + " passed"
    elif step == "build":
        build("adder.zip")
        result = zipfile.ZipFile("adder.zip").namelist()
    elif step == "deploy":
        build(deployed / (given["environment"] + ".zip"))
        result = given["environment"]
    elif step == "verify":
        sys.path.insert(0, str(deployed / (given["environment"] + ".zip")))
        os.chdir("/")
        from adder import add
        result = add(1, 2)
    pathlib.Path(os.environ["ANABRANCH_OUTPUT"]).write_text(json.dumps(result))
    """
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a module and its tests."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "adder.py").write_text("def add(a, b):\n    return a + b\n")
    test = """
        import unittest
        from adder import add

        class AddTest(unittest.TestCase):
            def test_adds(self):
                self.assertEqual(add(1, 2), 3)
        """
    (folder / "test_adder.py").write_text(dedent(test))
    _git(folder, "init", "--quiet")
    _commit(folder, "Add")
    return folder


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder into which is deployed; agents for each step are configured."""
    folder = tmp_path / "deployed"
    folder.mkdir()
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    agents = {
        step: {
            "kind": "process",
            "command": [sys.executable, str(script), step, str(folder)],
            "capabilities": [capability],
        }
        for step, capability in STEPS.items()
    }
    (tmp_path / "agents.yaml").write_text(yaml.safe_dump(agents))
    monkeypatch.setenv("ANABRANCH_AGENT_FILES", str(tmp_path / "agents.yaml"))
    monkeypatch.setenv("ANABRANCH_EXECUTORS", "process")
    return folder


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True)


def _commit(folder: Path, message: str) -> None:
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "-m", message)


def test_a_repository_is_delivered(repository: Path, deployed: Path) -> None:
    workflow = WorkflowBuilder.create_ci_cd_workflow("CI/CD", "ann", str(repository))
    with SyncTaskAPI() as api:
        result = api.execute_workflow(workflow, wait=True, timeout=SECONDS)

    assert result["failures"] == []
    assert result["status"] == WorkflowStatus.COMPLETED
    assert result["results"] == {
        "analysis": {"lines": 2},
        "unit_tests": "unit passed",
        "integration_tests": "integration passed",
        "build": ["adder.py"],
        "deploy": "staging",
        "verify": 3,
    }
    assert zipfile.ZipFile(deployed / "staging.zip").namelist() == ["adder.py"]


def test_a_broken_repository_is_not_delivered(repository: Path, deployed: Path) -> None:
    (repository / "adder.py").write_text("def add(a, b):\n    return a - b\n")
    _commit(repository, "Break")
    workflow = WorkflowBuilder.create_ci_cd_workflow("CI/CD", "ann", str(repository))
    with SyncTaskAPI() as api:
        result = api.execute_workflow(workflow, wait=True, timeout=SECONDS)

    assert result["status"] == WorkflowStatus.FAILED
    assert {each["error_type"] for each in result["failures"]} == {"ProgramFailed"}
    assert list(deployed.iterdir()) == []


def test_a_pipeline_of_tasks_stops_at_a_failure_and_goes_on_after_it(repository: Path, deployed: Path) -> None:
    fixed = (repository / "adder.py").read_text()
    (repository / "adder.py").write_text("def add(a, b:\n")
    _commit(repository, "Break")
    where = {"repository_url": str(repository), "created_by": "ann"}
    lint = TaskFactory.create_code_analysis_task("lint", **where)
    test = TaskFactory.create_testing_task("test", **where)
    pipeline = TaskFactory.create_pipeline([lint, test])
    with SyncTaskAPI() as api:
        api.create_tasks(pipeline)
        api.execute_task(lint.id, wait=True, timeout=SECONDS)
        failed, waiting = api.get_task(lint.id), api.get_task(test.id)
        assert failed is not None
        assert waiting is not None
        assert failed.status == TaskStatus.FAILED
        assert "SyntaxError" in str(failed.error_message)
        assert waiting.status == TaskStatus.PENDING
        assert f"Dependency task {lint.id} failed" in str(waiting.reason)

        (repository / "adder.py").write_text(fixed)
        _commit(repository, "Fix")
        api.retry_task(lint.id)
        assert api.wait_for_task(test.id, SECONDS).result == "unit passed"
        execution = api.get_task_execution(lint.id)
        assert execution is not None
        assert (execution.execution_number, execution.executor_id) == (2, "lint")
        assert json.loads(execution.model_dump_json())["status"] == "completed"
