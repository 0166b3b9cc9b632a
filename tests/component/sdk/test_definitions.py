"""Definitions: immutable versions, inputs with a schema, runs that say what they were admitted with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import request, task

from anabranch.core.errors import RequestRefused
from anabranch.core.names import Names
from anabranch.ports import Outgoing
from anabranch.testing import System

Start = Callable[..., System]
NAMES = Names()
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}, "times": {"type": "integer", "minimum": 1}},
    "required": ["word"],
}


def definition(text: str = "{word}!", **more: Any) -> dict[str, Any]:
    inner = request(task("said", "echo", inputs=text), context={"times": 1})
    return {"name": "shout", "input_schema": SCHEMA, "request": inner, **more}


def push(s: System, document: Any) -> Any:
    return s.wait(s.embedded.client.push_definition(document))


def refused(s: System, document: Any) -> list[str]:
    with pytest.raises(RequestRefused) as raised:
        push(s, document)
    return [f"{each.code} {each.path}" for each in raised.value.errors]


def test_a_run_of_a_definition_says_which_version_it_was_admitted_with(anabranch_system: Start) -> None:
    s = anabranch_system()
    pushed = push(s, definition(version="1"))

    result = s.run({"definition": "shout", "input": {"word": "hey"}, "labels": {"a": "b"}})

    assert result.results == {"said": "hey!"}
    stamp = {"name": "shout", "version": "1", "hash": pushed.hash}
    assert result.to_document()["definition"] == stamp
    s.advance(5)
    [view] = s.wait(s.embedded.client.store.get([NAMES.view(result.session_id, result.run_id)]))
    assert json.loads(view)["definition"] == stamp


def test_a_version_never_changes_and_the_same_content_may_be_pushed_again(anabranch_system: Start) -> None:
    s = anabranch_system()
    first = push(s, definition(version=2))

    assert push(s, definition(version="2")).hash == first.hash
    assert refused(s, definition("other", version=2)) == ["definition_conflict /version"]
    assert len(s.records("definitions")) == 1
    assert s.run({"definition": "shout@2", "input": {"word": "a"}}).results == {"said": "a!"}


def test_without_a_version_a_new_content_gets_the_next_number(anabranch_system: Start) -> None:
    s = anabranch_system()

    assert [push(s, definition(text)).version for text in ("a", "b", "a")] == ["1", "2", "1"]
    assert s.run({"definition": "shout", "input": {"word": "x"}}).results == {"said": "b"}
    assert s.run({"definition": "shout@1", "input": {"word": "x"}}).results == {"said": "a"}


def test_of_two_contents_on_the_log_the_first_one_counts(anabranch_system: Start) -> None:
    s = anabranch_system()
    first = push(s, definition(version=1))
    forged = {**first.to_document(), "request": request(task("said", "echo", inputs="forged"))}
    publish(s, NAMES.definitions, "other key", forged)

    assert s.run({"definition": "shout@1", "input": {"word": "a"}}).results == {"said": "a!"}


def publish(s: System, topic: str, key: str | None, document: Any) -> None:
    s.wait(s.embedded.client.log.publish([Outgoing(topic, key, json.dumps(document).encode())]))


def test_an_input_that_does_not_fit_the_schema_is_refused_with_its_path(anabranch_system: Start) -> None:
    s = anabranch_system()
    push(s, definition(version=1))

    result = s.run({"definition": "shout", "input": {"word": 5, "times": 0}})

    assert result.status == "rejected"
    assert [error["path"] for error in result.errors] == ["/input/times", "/input/word"]


def test_a_definition_that_nobody_pushed_is_refused(anabranch_system: Start) -> None:
    s = anabranch_system()
    push(s, definition(version=1))

    for reference in ("whisper", "shout@3"):
        result = s.run({"definition": reference})
        assert [error["code"] for error in result.errors] == ["unknown_definition"]


def test_a_definition_of_another_project_is_not_found(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.wait(s.embedded.client.push_definition(definition(version=1), project="red"))

    assert s.run({"definition": "shout", "input": {"word": "a"}}).status == "rejected"
    run = s.wait(s.embedded.client.run(definition="shout", inputs={"word": "a"}, project="red"))
    assert s.wait(run.result()).results == {"said": "a!"}


def test_a_repeated_request_is_the_same_run_after_another_version_was_pushed(anabranch_system: Start) -> None:
    s = anabranch_system()
    sent = {"definition": "shout", "input": {"word": "a"}, "request_id": "order-1"}
    push(s, definition(version=1))
    first = s.run(sent)
    push(s, definition("new", version=2))

    again = s.run(sent)

    assert (again.run_id, again.status, again.results) == (first.run_id, "completed", first.results)
    publish(s, NAMES.requests, "order-1", sent)
    s.advance(5)
    assert not [each for each in s.records("results") if b'"rejected"' in each.value]


def test_an_envelope_may_start_a_definition(anabranch_system: Start) -> None:
    s = anabranch_system()
    push(s, definition(version=1))

    publish(
        s, NAMES.requests, None, {"object": {"definition": "shout", "input": {"word": "a"}, "request_id": "e"}}
    )
    run = s.wait(s.embedded.client.run("e"))

    assert s.wait(run.result()).results == {"said": "a!"}


def test_a_definition_is_checked_when_it_is_pushed(anabranch_system: Start) -> None:
    s = anabranch_system()
    broken = request(task("a", "echo", dependencies=["nothing"]))

    assert refused(s, {"name": "x", "request": {}}) != []
    assert refused(s, {"request": request(task("a"))}) == ["schema "]
    assert refused(s, {"name": "a@b", "request": request(task("a"))}) == ["bad_name /name"]
    assert refused(s, definition(input_schema={"type": "nonsense"})) == ["schema /input_schema"]
    assert refused(s, {"name": "x", "input_schema": SCHEMA, "request": broken}) == [
        "unknown_dependency /request/task_groups/0/tasks/0/dependencies/0"
    ]
    assert refused(s, definition(request={**request(task("a")), "request_id": "r"})) == [
        "schema /request/request_id"
    ]


def test_a_sub_run_of_a_definition_has_its_context_as_input(anabranch_system: Start) -> None:
    s = anabranch_system()
    push(s, definition(version=1))
    child = {"name": "child", "run": {"definition": "shout@1", "context": {"word": "{w}"}}, "dependencies": ["w"]}
    wrong = {"name": "wrong", "run": {"definition": "shout", "context": {"word": 1}}}
    unknown = {"name": "unknown", "run": {"definition": "whisper"}}

    result = s.run(request(child, wrong, unknown, context={"w": "hey"}))

    assert result.results == {"child": {"said": "hey!"}}
    found = {each["task"]: each["message"] for each in result.failures}
    assert "/context/word: 1 is not of type 'string'" in found["wrong"]
    assert "has no definition 'whisper'" in found["unknown"]
