"""Files that declare agents which are programs: what they give, and what is wrong with them, by line and path."""

from __future__ import annotations

from pathlib import Path

import pytest

from anabranch import Task
from anabranch.compose import registry_of
from anabranch.core.errors import GiveUp, Misconfigured
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.agent_files import read_agent_file
from anabranch.sdk.programs.policy import ProgramPolicy
from anabranch.sdk.programs.program import BuiltinProgram
from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec

GOOD = """
resize:
  kind: container
  image: registry.example/acme/resize:3
  command: resize --size "large one"
  env: {LEVEL: 3, QUIET: true}
  resources: {cpu: 500m, memory: 256Mi}
  timeout: 2m
  output: last-line
  capabilities: [images]
  version: 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "agents.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_declares_an_agent(tmp_path: Path) -> None:
    [agent] = read_agent_file(written(tmp_path, GOOD))

    assert agent.program is not None
    assert agent.program.call_of(Task(name="t", inputs={"a": 1})).inputs == b'{"a":1}'
    spec = agent.program.call_of(Task(name="t", message="hello")).spec
    assert (agent.name, agent.executor, agent.timeout) == ("resize", "container", 120.0)
    assert (agent.capabilities, agent.version) == (("images",), "3")
    assert spec.command == ("resize", "--size", "large one")
    assert spec.env == {"LEVEL": "3", "QUIET": "true"}
    assert spec.limits == ProgramLimits(0.5, 256 * 1024 * 1024)
    assert agent.place.endswith("agents.yaml:2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n  kind: process\n", "agents.yaml:1 /a: command is missing"),
        ("a:\n  kind: process\n  command: [x]\n  imge: y\n", "agents.yaml:4 /a/imge: "),
        ("a:\n  kind: container\n  command: x\n", "agents.yaml:1 /a: image is missing"),
        ("a:\n  kind: ship\n  command: x\n", "agents.yaml:2 /a/kind: "),
        (
            "a:\n  kind: process\n  command: x\n  resources: {memory: lots}\n",
            "agents.yaml:4 /a/resources/memory: ",
        ),
        (
            "a:\n  kind: process\n  command: x\n  namespace: n\n",
            "agents.yaml:4 /a/namespace: namespace is of a Job",
        ),
        ("a/b:\n  kind: process\n  command: x\n", "agents.yaml:1 /a~1b: the name of an agent"),
        ("- a\n", "must be an object"),
        ("a: [\n", "agents.yaml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_agent_file(written(tmp_path, text))

    assert said in str(refused.value)


def test_two_agents_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "echo:\n  kind: process\n  command: cat\n")

    with pytest.raises(Misconfigured, match="two agents have the name 'echo'"):
        registry_of(Settings(agent_files=(str(path),)))


def test_a_built_in_agent_is_there_once_its_kind_is_on() -> None:
    assert "process" not in registry_of(Settings())
    assert "process" in registry_of(Settings(executors=("process",)))


@pytest.mark.parametrize(
    ("spec", "is_allowed"),
    [
        (ProgramSpec("process", ("python3", "x.py")), True),
        (ProgramSpec("process", ("jobs/a.sh",)), True),
        (ProgramSpec("process", ("jobs/../bin/sh",)), False),
        (ProgramSpec("process", ("sh",)), False),
        (ProgramSpec("container", image="acme/tool:1"), True),
        (ProgramSpec("container", image="other/tool"), False),
        (ProgramSpec("kubernetes", image="acme/tool", namespace="jobs"), True),
        (ProgramSpec("kubernetes", image="acme/tool", namespace="kube-system"), False),
    ],
)
def test_requests_run_what_the_lists_allow(spec: ProgramSpec, is_allowed: bool) -> None:
    policy = ProgramPolicy(("python3", "jobs/*"), ("acme/*",), ("jobs",))

    assert (policy.refusal(spec) is None) is is_allowed
    assert ProgramPolicy().refusal(spec) is not None


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (None, "must be an object"),
        ({"command": ["sh"], "cmd": 1}, "inputs/cmd"),
        ({"image": "x", "command": ["python3"]}, "inputs.image"),
        ({"command": ["sh"]}, "ANABRANCH_EXECUTOR_COMMANDS"),
        ({"command": ["python3"], "input": "args", "inputs": "x" * 200_000}, "an argument takes"),
    ],
)
def test_a_request_names_a_program_that_may_run(inputs: object, said: str) -> None:
    program = BuiltinProgram("process", ProgramPolicy(("python3",)))

    with pytest.raises(GiveUp, match=said):
        program.call_of(Task(name="t", inputs=inputs))
