"""What the gateway and `plan` say of tasks whose agents are programs: their kind, what they run, and where."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateways import Running, gateway
from kubernetes_api import kubernetes_api
from small_requests import array, request, task
from waiting import eventually_true

from anabranch.cli.commands.plan import plan as print_plan
from anabranch.cli.commands.plan import plan_document
from anabranch.cli.render.tables import Form
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry
from anabranch.sdk.programs.registration import add_programs

AGENTS: dict[str, Any] = {
    "resize": {
        "kind": "kubernetes",
        "image": "tests/shell",
        "command": ["/bin/sh", "-c", "sleep 600; echo secret-argument"],
        "env": {"TOKEN": "secret-value"},
    },
    "here": {"kind": "process", "command": ["sleep", "600"]},
}


def agent_file(folder: Path) -> str:
    file = folder / "agents.json"
    file.write_text(json.dumps(AGENTS))
    return str(file)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with kubernetes_api(tmp_path) as api:
        settings = Settings.load(
            {},
            overrides={
                "executors": "process,kubernetes",
                "kubernetes_kubeconfig": str(api.kubeconfig(tmp_path)),
                "agent_files": agent_file(tmp_path),
            },
        )
        registry = add_programs(Registry.builtin(), settings)
        async with gateway(settings, registry) as started:
            yield started


async def missing_of(running: Running, run: str) -> dict[str, list[dict[str, Any]]]:
    """The entries of `why`, by task."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in (await running.get(f"/v1/runs/{run}/why"))["missing"]:
        found.setdefault(each["task"], []).append(each)
    return found


async def test_why_names_the_program_of_each_member_that_runs(running: Running) -> None:
    fan = task("fan", "resize", expansion_config=array([1, 2]))
    sent = request(fan, task("one", "resize"), task("local", "here"), request_id="q")
    await running.submit(sent, wait=None)

    async def is_named() -> bool:
        entries = await missing_of(running, "q")
        texts = [str(each.get("detail")) for found in entries.values() for each in found]
        return len(texts) == 4 and all("it holds no slot" in text for text in texts) and "not on" not in str(texts)

    await eventually_true(is_named, because="why did not name the four programs")
    entries = await missing_of(running, "q")
    first, second = entries["fan"]
    assert {first["index"], second["index"]} == {0, 1}
    assert first["detail"] != second["detail"]
    for each in (first, second, *entries["one"]):
        assert each["detail"].startswith("Job jobs/ab-")
        assert "followed from host " in each["detail"]
        assert each["since"] is not None
    assert entries["local"][0]["detail"].startswith("process of its worker on host ")
    await running.http.post("/v1/runs/q/cancel")


async def test_the_graph_says_how_workers_execute_each_task(running: Running) -> None:
    sent = request(task("one", "resize"), task("local", "here"), task("called", "echo"), request_id="q")
    await running.submit(sent, wait=None)

    async def is_known() -> bool:
        return all("executor" in node for node in (await running.get("/v1/runs/q/graph"))["nodes"])

    await eventually_true(is_known, because="the graph did not say how agents are executed")
    graph = await running.get("/v1/runs/q/graph")
    nodes = {node["task"]: node for node in graph["nodes"]}
    assert (nodes["one"]["executor"], nodes["one"]["program"]) == (
        "kubernetes",
        {"image": "tests/shell", "command": "/bin/sh", "arguments": 2},
    )
    assert (nodes["local"]["executor"], nodes["local"]["program"]) == (
        "process",
        {"command": "sleep", "arguments": 1},
    )
    assert nodes["called"]["executor"] == "in-process"
    assert "program" not in nodes["called"]
    assert "secret" not in json.dumps([graph, await running.get("/v1/agents")])
    await running.http.post("/v1/runs/q/cancel")


def test_a_plan_says_which_programs_no_configured_executor_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {"image": "tests/count:1", "command": ["count", "--token=secret"], "namespace": "jobs"}
    sent = request(
        task("file", "resize"), task("named", "kubernetes", inputs), task("local", "here"), task("called", "echo")
    )
    file = tmp_path / "request.json"
    file.write_text(json.dumps(sent))
    settings = Settings(agent_files=(agent_file(tmp_path),), executors=("process",))

    document = plan_document(str(file), settings, expand=False)
    print_plan(str(file), settings, form=Form.TABLE, expand=False)

    tasks = {each["name"]: each for each in document["tasks"]}
    assert document["valid"]
    assert (tasks["file"]["executor"], tasks["file"]["served"]) == ("kubernetes", False)
    assert tasks["file"]["program"] == {"image": "tests/shell", "command": "/bin/sh", "arguments": 2}
    assert tasks["named"]["program"] == {
        "image": "tests/count:1",
        "command": "count",
        "arguments": 1,
        "namespace": "jobs",
    }
    assert (tasks["local"]["executor"], tasks["local"]["served"]) == ("process", True)
    assert (tasks["called"]["executor"], "served" in tasks["called"]) == ("in-process", False)
    assert [each.split(",")[0] for each in document["warnings"]] == [
        "agent 'resize' is a program of kind kubernetes",
        "agent 'kubernetes' is a program of kind kubernetes",
    ]
    printed = capsys.readouterr()
    words = " ".join((printed.out + printed.err).split())
    assert "as kubernetes tests/count:1, count with 1 argument, in namespace jobs, which no configured" in words
    assert "add kubernetes to the setting executors" in words
    assert "secret" not in words
    assert plan_document(str(file), Settings(), expand=False)["tasks"][1]["served"] is False
