"""Hooks run before and after each attempt, in the order of their definition, whatever form agent and hooks
have."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import types
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch import ExecutionOutcome, GiveUp, Registry, Task, after_execution, agent, before_execution
from anabranch.testing import system

SET: ContextVar[str] = ContextVar("set", default="nothing")
NAME = "noted"


class Notes:
    """Makes hooks and agents that note their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.outcomes: list[ExecutionOutcome] = []

    def before(self, name: str, is_async: bool, error: Exception | None = None) -> Callable[..., Any]:
        def note(task: Task) -> None:
            self.calls.append((name, task.index))
            SET.set(name)
            if error is not None:
                raise error

        return before_execution(as_async(note) if is_async else note)

    def after(self, name: str, is_async: bool, error: Exception | None = None) -> Callable[..., Any]:
        def note(task: Task, outcome: ExecutionOutcome) -> None:
            self.calls.append((name, task.index))
            self.outcomes.append(outcome)
            if error is not None:
                raise error

        return after_execution(as_async(note) if is_async else note)

    def agent(self, is_async: bool, error: BaseException | None = None) -> Callable[..., Any]:
        def work(task: Task) -> str:
            self.calls.append(("agent", task.index))
            if error is not None:
                raise error
            return SET.get()

        return agent(NAME)(as_async(work) if is_async else work)


def as_async(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(task: Task) -> Any:
        return function(task)

    async def call_with_outcome(task: Task, outcome: ExecutionOutcome) -> Any:
        return function(task, outcome)

    return call_with_outcome if function.__code__.co_argcount == 2 else call


FORMS = [(agents, hooks) for agents in (True, False) for hooks in (True, False)]


@pytest.mark.parametrize(("agent_is_async", "hooks_are_async"), FORMS)
def test_hooks_run_around_each_attempt_in_their_order(agent_is_async: bool, hooks_are_async: bool) -> None:
    notes = Notes()
    hooks = [
        notes.before("first", hooks_are_async),
        notes.after("third", hooks_are_async),
        notes.before("second", hooks_are_async),
        notes.after("fourth", hooks_are_async),
    ]
    with system(agents=[notes.agent(agent_is_async), *hooks]) as running:
        result = running.run(request(task("t", NAME, expansion_config=array([1, 2]), max_concurrency=1)))

    order = ["first", "second", "agent", "third", "fourth"]
    assert notes.calls == [(name, index) for index in (0, 1) for name in order]
    assert [(each.status, each.error) for each in notes.outcomes] == [("completed", None)] * 4
    # A hook sets a variable for the agent, unless it runs in another thread than the agent's coroutine.
    shared = hooks_are_async or not agent_is_async
    assert result.results["t"] == ["second" if shared else "nothing"] * 2
    assert notes.outcomes[0].result == result.results["t"][0]


@pytest.mark.parametrize(("agent_is_async", "hooks_are_async"), FORMS)
def test_a_failing_hook_before_fails_the_attempt_which_is_retried(
    agent_is_async: bool, hooks_are_async: bool
) -> None:
    notes = Notes()
    failing = notes.before("before", hooks_are_async, OSError("no licence"))
    retry = {"strategy": "fixed", "delay": "1s", "max_attempts": 2}
    with system(agents=[notes.agent(agent_is_async), failing, notes.after("after", hooks_are_async)]) as running:
        result = running.run(request(task("t", NAME, retry=retry)))

    assert [name for name, _ in notes.calls] == ["before", "after"] * 2
    [failure] = result.failures
    assert (failure["error_type"], failure["message"], failure["attempts"]) == ("OSError", "no licence", 2)
    assert [(each.status, str(each.error)) for each in notes.outcomes] == [("failed", "no licence")] * 2


@pytest.mark.parametrize(("agent_is_async", "hooks_are_async"), FORMS)
def test_a_failing_hook_after_is_logged_and_the_attempt_keeps_its_outcome(
    agent_is_async: bool, hooks_are_async: bool
) -> None:
    notes = Notes()
    hooks = [notes.after("wrong", hooks_are_async, OSError("disk full")), notes.after("last", hooks_are_async)]
    with system(agents=[notes.agent(agent_is_async), *hooks]) as running:
        run = running.submit(request(task("t", NAME)))
        result = run.result()
        lines = [event for event in run.events() if event["type"] == "task.log"]

    assert result.status == "completed"
    assert [name for name, _ in notes.calls] == ["agent", "wrong", "last"]
    [line] = lines
    assert line["level"] == "error"
    assert "after_execution hook" in line["message"]
    assert "disk full" in line["fields"]["error"]


@pytest.mark.parametrize(("agent_is_async", "hooks_are_async"), FORMS)
@pytest.mark.parametrize("error", [GiveUp("no"), StopIteration(), SystemExit(3)], ids=["error", "stop", "exit"])
def test_hooks_see_the_error_of_the_agent(
    agent_is_async: bool, hooks_are_async: bool, error: BaseException
) -> None:
    notes = Notes()
    with system(agents=[notes.agent(agent_is_async, error), notes.after("after", hooks_are_async)]) as running:
        result = running.run(request(task("t", NAME)))

    assert result.status == "failed"
    [outcome] = notes.outcomes
    assert outcome.status == "failed"
    assert type(outcome.error) in (type(error), RuntimeError)


def test_hooks_see_that_an_attempt_was_stopped() -> None:
    notes = Notes()

    @agent("waits")
    async def waits(task: Task) -> None:
        await asyncio.sleep(60)

    with system(agents=[waits, notes.after("after", True)]) as running:
        result = running.run(request(task("t", "waits", timeout="2s")))

    assert result.failures[0]["error_type"] == "AttemptTimeout"
    assert [(each.status, type(each.error)) for each in notes.outcomes] == [("cancelled", asyncio.CancelledError)]


def test_def_hooks_of_a_def_agent_run_in_its_thread() -> None:
    threads: list[str] = []

    def note(task: Task) -> None:
        threads.append(threading.current_thread().name)

    @agent("threaded")
    def threaded(task: Task) -> None:
        note(task)

    with system(agents=[before_execution(note), threaded, after_execution(lambda task: note(task))]) as running:
        running.run(request(task("t", "threaded")))

    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] != threading.main_thread().name


def test_a_def_agent_that_returns_a_coroutine_has_its_hooks_after_it() -> None:
    notes = Notes()

    async def later(task: Task) -> int:
        notes.calls.append(("agent", task.index))
        return 7

    @agent("wrapped")
    def wrapped(task: Task) -> Any:
        return later(task)

    with system(agents=[wrapped, notes.after("after", False)]) as running:
        result = running.run(request(task("t", "wrapped")))

    assert result.results["t"] == 7
    assert [name for name, _ in notes.calls] == ["agent", "after"]
    assert notes.outcomes[0].result == 7


def module(source: str, path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> types.ModuleType:
    (path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


def test_a_module_gives_its_hooks_once_also_those_that_no_variable_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
import functools
from anabranch import after_execution, before_execution

def outer(function):
    @functools.wraps(function)
    def call(task):
        return function(task)
    return call

def make(number):
    @before_execution
    def numbered(task): ...
    numbered.number = number

for number in range(2):
    make(number)

@outer
@before_execution
def wrapped(task): ...

@after_execution
def last(task): ...
again = last
"""
    found = module(source, tmp_path, monkeypatch, "hooks_only")
    registry = Registry().add(found).add(found)

    assert [getattr(hook.call, "number", None) for hook in registry.hooks.before] == [0, 1, None]
    assert registry.hooks.before[2].call is found.wrapped
    assert [hook.call for hook in registry.hooks.after] == [found.last]


@pytest.mark.parametrize(
    ("mark", "wrong", "said"),
    [
        (before_execution, lambda: None, "must take one argument, the task"),
        (before_execution, lambda task, outcome: None, "must take one argument, the task"),
        (after_execution, lambda: None, "the task and its outcome"),
        (after_execution, int, "marks a function"),
        (before_execution, "agent", "marks a function"),
    ],
)
def test_a_hook_that_cannot_be_called_is_refused(mark: Callable[..., Any], wrong: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        mark(wrong)


def test_a_generator_is_no_hook() -> None:
    def hook(task: Task) -> Any:
        yield

    with pytest.raises(TypeError, match="generator"):
        before_execution(functools.partial(hook))
