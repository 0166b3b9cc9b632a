"""Sequences and steps through the whole system: a failure stops them, a skipped task does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anabranch import Task
from anabranch.testing import System

Start = Callable[..., System]


class Book:
    """Agents that write down what they do."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    async def do(self, task: Task) -> Any:
        self.lines.append(task.inputs)
        return task.inputs

    async def broken(self, task: Task) -> None:
        raise ValueError("no")

    @property
    def agents(self) -> dict[str, Any]:
        return {"do": self.do, "broken": self.broken}


def task(name: str, agent: str = "do", **fields: Any) -> dict[str, Any]:
    return {"name": name, "agent": agent, "inputs": name, **fields}


def run(start: Start, document: dict[str, Any]) -> tuple[Book, Any]:
    book = Book()
    return book, start(agents=book.agents).run({"context": {"go": False}, **document})


def sequence(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "sequential": True, "tasks": list(tasks)}]}


@pytest.mark.parametrize("write", [sequence, lambda *tasks: {"steps": list(tasks)}])
def test_a_sequence_stops_at_the_first_failure(anabranch_system: Start, write: Callable[..., Any]) -> None:
    book, result = run(anabranch_system, write(task("a"), task("b", "broken"), task("c"), task("d")))

    assert book.lines == ["a"]
    assert result.status == "failed"
    assert [failure["task"] for failure in result.failures] == ["b"]


@pytest.mark.parametrize("write", [sequence, lambda *tasks: {"steps": list(tasks)}])
def test_a_sequence_goes_on_after_a_task_that_its_condition_skipped(
    anabranch_system: Start, write: Callable[..., Any]
) -> None:
    # `c` needs what `b` did not give, so it is skipped as well: that is no failure either.
    tasks = [task("a"), task("b", when="go == true"), task("c", dependencies=["b"]), task("d")]
    book, result = run(anabranch_system, write(*tasks))

    assert book.lines == ["a", "d"]
    assert result.status == "completed"


def test_a_sequence_goes_on_after_a_failure_that_is_handled(anabranch_system: Start) -> None:
    steps = [task("a", "broken", error_key="err"), task("b", inputs="{err.error_type}"), task("c")]
    book, result = run(anabranch_system, {"steps": steps})

    assert book.lines == ["ValueError", "c"]
    assert result.status == "completed"


def test_steps_run_one_branch_and_go_on(anabranch_system: Start) -> None:
    choice = {"if": "a == 'a'", "then": [task("b", result_keys=["x"])], "else": [task("c", result_keys=["x"])]}
    parallel = {"parallel": [task("d", inputs="{x}"), {"sequential": [task("e"), task("f")]}]}
    book, result = run(anabranch_system, {"steps": [task("a"), choice, parallel, task("z", inputs="{d}!")]})

    assert book.lines[:2] == ["a", "b"]
    assert sorted(book.lines[2:5]) == ["b", "e", "f"]
    assert book.lines.index("e") < book.lines.index("f")
    assert book.lines[5:] == ["b!"]
    assert result.results["x"] == "b"


def test_the_default_of_a_switch_over_groups_runs_and_the_others_are_skipped(anabranch_system: Start) -> None:
    cases = [{"when": "go == true", "groups": ["one"]}]
    items = [
        {"name": "one", "tasks": [task("a")]},
        {"switch": {"cases": cases, "default": {"tasks": [task("b")]}}},
    ]
    book, result = run(anabranch_system, {"task_groups": items})

    assert book.lines == ["b"]
    assert result.status == "completed"


def test_a_failed_condition_stops_the_steps_behind_it(anabranch_system: Start) -> None:
    steps = [task("a"), {"if": "a > 1", "then": [task("b")]}, task("c")]
    book, result = run(anabranch_system, {"steps": steps})

    assert book.lines == ["a"]
    assert [(failure["task"], failure["error_type"]) for failure in result.failures] == [
        ("(if)", "ConditionError")
    ]


def test_steps_with_a_loop_go_on_with_the_keys_of_its_last_iteration(anabranch_system: Start) -> None:
    body = [
        task("n", inputs="{iteration}"),
        {"if": "iteration == 1", "then": [task("x", inputs="{item}", result_keys=["k"])],
         "else": [task("y", inputs="other", result_keys=["k"])]},
        task("w", inputs="{n} {k}"),
    ]  # fmt: skip
    steps = [
        task("a"),
        {"loop": {"each": ["p", "q"], "steps": body}},
        task("z", inputs="{k} {steps.loop.iterations}"),
    ]
    book, result = run(anabranch_system, {"steps": steps})

    assert book.lines == ["a", 0, "other", "0 other", 1, "q", "1 q", "q 2"]
    assert result.status == "completed"


def test_a_failure_in_a_loop_stops_the_steps_behind_it(anabranch_system: Start) -> None:
    loop = {"loop": {"each": [1, 2], "steps": [task("n", inputs="{item}"), task("b", "broken"), task("c")]}}
    book, result = run(anabranch_system, {"steps": [loop, task("z")]})

    assert book.lines == [1]
    assert result.status == "failed"
