"""The request of an execution."""

from __future__ import annotations

from typing import Any

import pytest
from task_examples import NOW, execution, id_of, task

from anabranch.core.request.admission import read_request
from anabranch.core.tasks.models import Task
from anabranch.core.tasks.requests import Start, request_of, requires_of


def _request(of: Task, **start: Any) -> dict[str, Any]:
    return request_of(Start(execution(of=of), of, "ann", **start))


def test_the_request_is_valid_and_names_the_task() -> None:
    made = _request(task(task_type="testing", priority="high", timeout_seconds=60))

    assert read_request(made).request is not None
    assert made["request_id"] == f"task/{id_of(1)}/1"
    assert (made["name"], made["priority"], made["timeout"]) == ("task 1", 3, 60)
    assert made["labels"] == {"task_id": str(id_of(1)), "task_type": "testing"}


def test_text_of_users_is_not_taken_for_placeholders() -> None:
    made = _request(task(name="{x}", description="{secret}", execution_context={"path": "{home}"}))

    assert read_request(made).request is not None
    inputs = made["task_groups"][0]["tasks"][0]["inputs"]
    assert inputs == {"path": "{execution_context.path}", "task": "{task}"}
    assert made["context"]["execution_context"] == {"path": "{home}"}


def test_any_key_of_the_execution_context_is_an_input() -> None:
    given = {"a.b": 1, "": 2, "}": 3, "x y": 4, "plain": 5}
    made = _request(task(execution_context=given))

    assert read_request(made).request is not None
    inputs = made["task_groups"][0]["tasks"][0]["inputs"]
    assert inputs["a.b"] == "{execution_context.input-0}"
    values = made["context"]["execution_context"]
    assert {name: values[inputs[name][len("{execution_context.") : -1]] for name in given} == given


@pytest.mark.parametrize(
    ("name", "shown"), [("CI/CD", "CI-CD"), ("a\nb", "a b"), ("\n", "task"), ("x" * 255, "x" * 255)]
)
def test_a_task_may_have_any_name(name: str, shown: str) -> None:
    made = _request(task(name=name))

    assert made["name"] == shown
    assert read_request(made).request is not None
    assert made["context"]["task"]["name"] == name


def test_requirements_are_sent_only_where_workers_announce_what_they_have() -> None:
    needs = task(resource_requirements={"cpu_cores": 4, "memory_gb": 8, "color": "red"})

    assert "requires" not in _request(needs)["task_groups"][0]["tasks"][0]
    required = _request(needs, with_requires=True)["task_groups"][0]["tasks"][0]["requires"]
    assert required == {"cpu": 4, "memory": "8Gi"}


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({}, {}),
        ({"disk_gb": 20}, {"disk": "20Gi"}),
        ({"gpu_count": 1, "labels": ["ssd"]}, {"gpu": 1, "labels": ["ssd"]}),
    ],
)
def test_requirements_become_those_of_requests(given: dict[str, Any], required: dict[str, Any]) -> None:
    assert requires_of(given) == required


def test_the_same_execution_has_the_same_request() -> None:
    of = task(tags={"b", "a", "c"}, metadata={"at": NOW.isoformat()})

    assert _request(of) == _request(of)
    assert _request(of)["context"]["task"]["tags"] == ["a", "b", "c"]
