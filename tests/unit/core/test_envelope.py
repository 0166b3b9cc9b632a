"""The compatibility envelope: accepted and ignored fields, and the paths of problems."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import read_request
from anabranch.core.request.envelope import json_pointer


def envelope(**fields: Any) -> dict[str, Any]:
    inner = {
        "name": "legacy",
        "session_id": "s-1",
        "order": 3,
        "task_groups": [
            {
                "name": "g",
                "order": 1,
                "tasks": [
                    {
                        "name": "a",
                        "agent_class": "echo",
                        "result_keys": ["x"],
                        "dependencies": ["rows"],
                        "order": 1,
                        "process_array_output": True,
                        "expansion_config": None,
                        "retry": {"strategy": "fixed", "legacy": 1},
                    }
                ],
            }
        ],
    }
    return {
        "key": "task_group:42",
        "action": "initialize",
        "object": inner,
        "context": {"context": {"rows": [1, 2]}, "context_info": {"a": 1}},
    } | fields


def test_the_request_inside_is_read() -> None:
    reading = read_request(envelope(), agents={"echo"})

    request = reading.required()
    assert (reading.request_id, reading.session_id) == ("42", "s-1")
    assert request.context == {"rows": [1, 2]}
    assert request.to_document() == {
        "request_id": "42",
        "session_id": "s-1",
        "name": "legacy",
        "context": {"rows": [1, 2]},
        "task_groups": [
            {
                "name": "g",
                "tasks": [
                    {
                        "name": "a",
                        "agent": "echo",
                        "result_keys": ["x"],
                        "dependencies": ["rows"],
                        "retry": {"strategy": "fixed"},
                    }
                ],
            }
        ],
    }


def test_unknown_fields_are_ignored_at_every_level_with_one_warning() -> None:
    reading = read_request(envelope(sender="x"))

    assert reading.warnings == (
        "ignored fields that a request does not have: sender, context.context_info, object.order, "
        "object.task_groups[].order, object.task_groups[].tasks[].order, "
        "object.task_groups[].tasks[].process_array_output, object.task_groups[].tasks[].retry.legacy",
    )


def test_the_same_fields_are_refused_outside_of_an_envelope() -> None:
    codes = {str(error.code) for error in read_request(envelope()["object"]).errors}

    assert codes == {"unknown_field", "unknown_dependency"}


def test_problems_point_into_the_document_as_it_was_sent() -> None:
    document = envelope(context={"context": {"k}": 1}}, key="task_group:a{b")
    inner = document["object"]["task_groups"][0]["tasks"]
    inner[0]["timeout"] = "soon"
    inner.append({"name": "b", "agent_class": "nope", "result_keys": ["y"]})

    reading = read_request(document, agents={"echo"})

    assert {(str(error.code), error.path) for error in reading.errors} == {
        ("bad_name", "/key"),
        ("bad_name", "/context/context/k}"),
        ("schema", "/object/task_groups/0/tasks/0/timeout"),
        ("unknown_dependency", "/object/task_groups/0/tasks/0/dependencies/0"),
        ("unknown_agent", "/object/task_groups/0/tasks/1/agent_class"),
    }


@pytest.mark.parametrize(("name", "value"), [("priority", "high"), ("not_before", "2030-01-01T00:00:00Z")])
def test_all_fields_of_a_request_are_read(name: str, value: str) -> None:
    document = envelope()
    document["object"][name] = value
    assert name in read_request(document).required().to_document()

    document["object"][name] = "soon"
    (error,) = read_request(document).errors
    assert (str(error.code), error.path) == ("schema", f"/object/{name}")


def test_values_of_both_contexts_are_taken_the_outer_first() -> None:
    document = envelope()
    document["object"]["context"] = {"rows": [9], "own": 1, "bad{": 1}

    (error,) = read_request(document).errors
    assert error.path == "/object/context/bad{"
    del document["object"]["context"]["bad{"]
    assert read_request(document).required().context == {"rows": [1, 2], "own": 1}


@pytest.mark.parametrize("left_out", ["key", "action"])
def test_what_may_be_left_out(left_out: str) -> None:
    document = envelope()
    del document[left_out]

    assert read_request(document).errors == ()


def test_without_a_key_the_inner_request_id_holds_and_otherwise_the_key() -> None:
    document = envelope()
    document["object"]["request_id"] = "inner"

    assert read_request(document).request_id == "42"
    assert "is ignored" in read_request(document).warnings[0]
    assert read_request(document | {"key": None}).request_id == "inner"
    assert read_request(document | {"key": "plain"}).request_id == "plain"


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"action": "delete"}, "not_supported", "/action"),
        ({"key": 5}, "schema", "/key"),
        ({"object": {}}, "schema", "/object"),
        ({"object": 5}, "schema", "/object"),
        ({"context": 5}, "schema", "/context"),
        ({"context": {"context": 5}}, "schema", "/context/context"),
    ],
)
def test_a_wrong_envelope_is_refused(wrong: dict[str, Any], code: str, path: str) -> None:
    errors = read_request(envelope(**wrong), session_keys={"rows"}).errors

    assert {(str(error.code), error.path) for error in errors} == {(code, path)}


def test_a_json_pointer_is_escaped() -> None:
    assert json_pointer(()) == ""
    assert json_pointer(("a/b", 0, "~c")) == "/a~1b/0/~0c"
