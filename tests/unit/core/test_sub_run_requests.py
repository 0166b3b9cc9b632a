"""Requests of sub-runs are checked at admission, as far as they are known."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import ValidationResult, read_request

AGENTS = frozenset({"echo"})


def inner(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "inner", "tasks": list(tasks)}], **fields}


def echo(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"name": name, "agent": "echo", **fields}


def examined(request: dict[str, Any], **run: Any) -> ValidationResult:
    task = {"name": "child", "run": {"request": request, **run}, "dependencies": ["word"]}
    outer = {"context": {"word": "w"}, "task_groups": [{"name": "g", "tasks": [task]}]}
    return read_request(outer, agents=AGENTS)


def errors(request: dict[str, Any], **run: Any) -> list[tuple[str, str]]:
    return [(str(each.code), each.path) for each in examined(request, **run).errors]


BASE = "/task_groups/0/tasks/0/run/request"


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({}, ("schema", "")),
        (inner(echo(agent="unknown")), ("unknown_agent", "/task_groups/0/tasks/0/agent")),
        (inner(echo(dependencies=["gone"])), ("unknown_dependency", "/task_groups/0/tasks/0/dependencies/0")),
        (inner(echo(inputs="{word}", retries=3)), ("unknown_field", "/task_groups/0/tasks/0/retries")),
    ],
)
def test_an_error_is_told_with_its_place_in_the_outer_request(
    request_: dict[str, Any], found: tuple[str, str]
) -> None:
    assert errors(request_) == [(found[0], BASE + found[1])]


def test_an_error_in_a_sub_run_of_a_sub_run_or_of_steps_has_its_place() -> None:
    nested = inner({"name": "again", "run": {"request": inner(echo(agent="unknown"))}})
    steps = {"steps": [{"run": {"request": inner(echo(agent="unknown"))}, "name": "child"}]}

    [(_, path)] = errors(nested)
    [step] = read_request(steps, agents=AGENTS).errors

    assert path == f"{BASE}/task_groups/0/tasks/0/run/request/task_groups/0/tasks/0/agent"
    assert step.path == "/steps/0/run/request/task_groups/0/tasks/0/agent"


def test_every_error_of_parent_and_child_is_told() -> None:
    child = {"name": "child", "run": {"request": inner(echo(agent="unknown"))}}
    outer = {"task_groups": [{"name": "g", "tasks": [child, echo("b", agent="missing")]}]}

    assert len(read_request(outer, agents=AGENTS).errors) == 2


@pytest.mark.parametrize(
    ("request_", "run"),
    [
        (inner(echo(inputs="{word}", message_template="{word}")), {}),
        (inner(echo(agent="{word}")), {}),
        (inner(echo(dependencies=["{word}"])), {}),
        (inner(echo(dependencies=["given"])), {"context": {"given": "{word}"}}),
        (inner(echo(dependencies=["old"])), {"session": "shared"}),
        (inner(echo(dependencies=["old"]), session_id="s"), {}),
        (
            inner(
                echo(expansion_config={"type": "array", "array_mapping": {"x": "xs"}}, inputs="{x}"),
                context={"xs": "{word}"},
            ),
            {},
        ),
        (inner(echo(), request_id=""), {}),
    ],
    ids=["template", "agent", "name", "given", "shared", "session", "array", "id"],
)
def test_what_only_the_run_decides_is_no_error(request_: dict[str, Any], run: dict[str, Any]) -> None:
    assert errors(request_, **run) == []


def test_the_error_of_one_child_at_each_of_many_depths_takes_no_time() -> None:
    request: dict[str, Any] = inner(echo(agent="unknown"))
    for _ in range(25):
        request = inner({"name": "child", "run": {"request": request}}, echo("b", agent="missing"))

    assert len(read_request(request, agents=AGENTS).errors) == 26
