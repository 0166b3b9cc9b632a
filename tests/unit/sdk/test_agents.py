"""Marking functions as agents, and the registry that finds them."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from anabranch import Misconfigured, Registry, Task, agent


@agent("plain", retry={"strategy": "fixed", "delay": "2s"}, timeout="1m", max_concurrency=3)
def plain(task: Task) -> str:
    return task.name


def test_the_decorator_returns_the_function_and_registers_nothing() -> None:
    assert plain(Task(name="member")) == "member"
    assert Registry().names == frozenset()


def test_a_declaration_has_the_options_of_the_decorator() -> None:
    declared = Registry().add(plain).get("plain")

    assert declared is not None
    assert (declared.handler, declared.is_async, declared.timeout, declared.max_concurrency) == (
        plain,
        False,
        60,
        3,
    )
    assert declared.retry is not None
    assert declared.retry.delay == 2.0
    assert "test_agents.py:" in declared.place


def test_async_functions_and_classes_with_an_async_call_run_on_the_loop() -> None:
    @agent("function")
    async def function(task: Task) -> None: ...

    @agent("object")
    class Worker:
        def __init__(self) -> None:
            self.calls = 0

        async def __call__(self, task: Task) -> int:
            self.calls += 1
            return self.calls

    registry = Registry().add(function).add(Worker)
    worker = registry.get("object")

    assert worker is not None
    assert worker.is_async
    assert [asyncio.run(worker.handler(Task(name="a"))) for _ in range(2)] == [1, 2]


def test_two_agents_of_one_name_are_refused_with_both_places() -> None:
    @agent("plain")
    def other(task: Task) -> None: ...

    with pytest.raises(Misconfigured, match=r"two agents have the name 'plain': .*plain .* and .*other"):
        Registry().add(plain).add(other)


def test_the_same_function_twice_is_one_agent() -> None:
    assert len(Registry().add(plain).add(plain)) == 1


def test_a_decorator_above_the_mark_is_what_runs() -> None:
    import functools

    def doubling(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(task: Task) -> Any:
            return function(task) * 2

        return wrapper

    declared = Registry().add(doubling(plain)).get("plain")

    assert declared is not None
    assert declared.handler(Task(name="ab")) == "abab"


def test_a_generator_is_no_agent() -> None:
    with pytest.raises(TypeError, match="is a generator"):

        @agent("many")
        def many(task: Task) -> Any:
            yield 1


def test_a_function_that_takes_no_task_is_refused() -> None:
    @agent("none")
    def none() -> None: ...

    with pytest.raises(TypeError, match="must take one argument"):
        Registry().add(none)


@pytest.mark.parametrize(
    "wrong", [{"timeout": "soon"}, {"timeout": 0}, {"retry": {"strategy": "never"}}, {"max_concurrency": 0}]
)
def test_invalid_options_are_refused_with_the_agents_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of the agent 'a'"):
        agent("a", **wrong)


def test_the_decorator_without_a_name_is_an_error() -> None:
    with pytest.raises(TypeError, match='write @agent\\("name"\\)'):
        agent(plain)  # type: ignore[type-var]


def test_a_module_is_loaded_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_agents.py").write_text(
        "from anabranch import agent\n@agent('sell')\ndef sell(task): return 1\ndef helper(): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    assert Registry().load("shop_agents").names == {"sell"}


@pytest.mark.parametrize(
    ("module", "message"),
    [("no.such.module", "cannot be imported"), ("agents.py", "pkg.module"), ("json", "no agent")],
)
def test_a_module_that_cannot_be_loaded_is_refused(module: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        Registry().load(module)


def test_an_instance_in_a_module_stands_for_its_class() -> None:
    module = types.ModuleType("made")

    @agent("made")
    class Made:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        def __call__(self, task: Task) -> str:
            return self.greeting

    vars(module).update(Made=Made, made=Made("hello"))
    declared = Registry().add(module).get("made")

    assert declared is not None
    assert declared.handler(Task(name="a")) == "hello"


def test_the_built_in_agents() -> None:
    assert Registry.builtin({}).names == {"echo", "sleep", "http", "fail", "emit"}
