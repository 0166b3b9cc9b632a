"""A task that names a capability runs with any agent that has it: the first one by name on the worker that reads
it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from many_workers import WorkerOf, installation_of
from small_requests import array, request, task

from anabranch import Registry, RequestRefused, Task, agent
from anabranch.core.request.admission import read_request
from anabranch.core.request.document import Document
from anabranch.core.request.models import TaskSpec
from anabranch.core.request.planning import plan
from anabranch.core.request.request_hash import body_hash
from anabranch.core.waiting import lacks_agent
from anabranch.testing import system

REVIEW = {"capability": "code_review"}


def reviewer(name: str, *capabilities: str) -> Callable[..., Any]:
    @agent(name, capabilities=capabilities or ["code_review"])
    async def review(task: Task) -> str:
        return name

    return review


def test_the_first_agent_by_name_serves_a_capability() -> None:
    agents = [reviewer("zeta"), reviewer("beta"), reviewer("alpha", "audit")]
    with system(agents=agents) as running:
        run = running.submit(request(task("t", REVIEW, expansion_config=array([1, 2])), task("u", "zeta")))
        results = run.result().results
        started = [event for event in run.events() if event["type"] == "task.started"]

    assert results == {"t": ["beta", "beta"], "u": "zeta"}
    assert {(event["task"], event.get("agent")) for event in started} == {("t", "beta"), ("u", None)}


def test_a_worker_without_the_capability_hands_the_task_to_another() -> None:
    workers = [WorkerOf(Registry().add(reviewer("other", "audit"))) for _ in range(2)]
    with installation_of(*workers, WorkerOf(Registry().add(reviewer("mine")))) as installation:
        result, _ = installation.wait(
            installation.run(request(task("t", REVIEW, expansion_config=array([1] * 9))))
        )

    assert result.results["t"] == ["mine"] * 9


def test_a_capability_has_two_spellings_and_one_meaning() -> None:
    given = [read_request(request(task("t", each))).required() for each in (REVIEW, "capability/code_review")]

    assert given[0] == given[1]
    assert len({body_hash(each.to_document()) for each in given}) == 1
    assert plan(given[0]).to_document(document_bytes=1)["tasks"][0]["agent"] == "capability/code_review"


@pytest.mark.parametrize(
    ("wrong", "path", "said"),
    [
        ({"capability": "code_reviw"}, "/agent/capability", "no agent has the capability 'code_reviw'"),
        ({"capability": "a/b"}, "/agent", "contains '/', which is not allowed here"),
        ({"capability": 3}, "/agent", "must be the name of an agent, or {capability: NAME}"),
        ({"capability": "code_review", "version": 2}, "/agent", "must be the name of an agent"),
        ({}, "/agent", "must be the name of an agent"),
        ("capability/", "/agent", "contains '/', which is not allowed here"),
    ],
)
def test_a_wrong_capability_is_refused_with_its_place(wrong: Any, path: str, said: str) -> None:
    known = Registry.builtin().add(reviewer("mine")).choices
    with pytest.raises(RequestRefused) as refused:
        read_request(request(task("t", wrong)), agents=known).required()

    problem = refused.value.errors[0]
    assert problem.path == f"/task_groups/0/tasks/0{path}"
    assert said in problem.message


def test_a_likely_capability_is_suggested() -> None:
    known = Registry().add(reviewer("mine")).choices
    with pytest.raises(RequestRefused) as refused:
        read_request(request(task("t", {"capability": "code_reviw"}), task("u", "min")), agents=known).required()

    assert [problem.hint for problem in refused.value.errors] == [
        "did you mean 'code_review'?",
        "did you mean 'mine'?",
    ]


def test_a_step_that_names_only_a_capability_has_it_as_its_name() -> None:
    found = read_request({"steps": [{"agent": REVIEW}, {"agent": REVIEW}]}).required()

    assert [each.name for each in found.task_groups[0].tasks] == ["code_review", "code_review-2"]


def test_a_missing_capability_is_named_in_words() -> None:
    assert lacks_agent("capability/x") == "no live worker has an agent with the capability 'x'"
    assert isinstance(TaskSpec(name="t", agent=REVIEW), Document)  # type: ignore[arg-type]
