"""A document and the request that was parsed from it have the same outline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from workflows import WORKFLOWS, workflow_request

from anabranch.core.request.admission import read_request
from anabranch.core.request.models import Request
from anabranch.core.request.outline import (
    Declared,
    GroupOutline,
    RequestedKey,
    TaskOutline,
    outline_of,
    read_outline,
)


def request(*tasks: dict[str, Any], **group: Any) -> dict[str, Any]:
    named = [
        {"name": f"t{at}", "agent": "echo", "result_keys": [f"k{at}"]} | task for at, task in enumerate(tasks)
    ]
    return {"task_groups": [{"name": "g", "tasks": named} | group]}


def expanding(**config: Any) -> dict[str, Any]:
    return {"expansion_config": config}


DOCUMENTS = [
    request(
        {
            "dependencies": ["a", "b?", "a", "c"],
            "optional_dependencies": ["c"],
            "external_dependencies": ["d?", "a"],
        },
        {"dependencies": ["a?", "b"], "optional_result_keys": ["k1"], "on_failure": "hold"},
        dependencies=["a", "b?", "e?"],
    ),
    request(
        *({"retry": retry} for retry in ({}, {"max_attempts": 1}, {"max_attempts": 3}, {"strategy": "fixed"}))
    ),
    request(
        expanding(type="array", array_mapping={"i": "rows.x", "j": [1], "k": "[1, 2]"}),
        expanding(type="matrix", array_mapping={}, include=[{"os": "l"}]),
        expanding(type="matrix", array_mapping={}),
        expanding(type="array", include=[{"os": "l"}]),
        expanding(type="custom", transform_rules={"combine": ["rows", "cols.x"], "filter": {"more.y": ">1"}}),
        expanding(type="custom", transform_rules={"sequence": {"n": {"end": 3}}}),
        expanding(type="array", transform_rules={"sequence": {"n": {"end": 3}}}),
        {"agent": None, "agent_class": "echo"},
    ),
    *(workflow_request(name, "program") for name in WORKFLOWS),
]


def without_places(groups: list[GroupOutline]) -> list[GroupOutline]:
    return [
        GroupOutline(declared(group.name), tuple((declared(name), bare(task)) for name, task in group.tasks))
        for group in groups
    ]


def declared(item: Declared | None) -> Declared | None:
    return item and Declared(item.text, ())


def bare(task: TaskOutline) -> TaskOutline:
    lists = ("produces", "optional_results", "optional_wants", "array_paths")
    placeless = {name: tuple(declared(item) for item in getattr(task, name)) for name in lists}
    wants = tuple(RequestedKey(want.key, want.optional, ()) for want in task.wants)
    return replace(task, path=(), agent=declared(task.agent), wants=wants, **placeless)  # type: ignore[arg-type]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_request_has_the_outline_of_its_document(document: dict[str, Any]) -> None:
    read = Request.model_validate(document)

    assert outline_of(read) == without_places(read_outline(read.to_document()))


def test_the_paths_of_a_valid_models_problems_point_into_the_document_as_sent() -> None:
    document = request({"dependencies": ["k1", "k1?", "nobody"], "agent": None, "agent_class": "ecko"}, {})

    problems = {(str(error.code), error.path) for error in read_request(document, agents={"echo"}).errors}

    task = "/task_groups/0/tasks/0"
    assert problems == {
        ("unknown_dependency", f"{task}/dependencies/2"),
        ("unknown_agent", f"{task}/agent_class"),
    }
