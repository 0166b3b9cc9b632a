"""The end of a run through the whole system: compensations, then `finally`, then the final record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import array, request, task

from anabranch import Task
from anabranch.core.errors import RequestRefused
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]


class Book:
    """Agents that write down what they do."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.keys: list[str] = []

    async def do(self, task: Task) -> Any:
        self.lines.append(f"do {task.inputs}")
        return {"id": task.inputs}

    async def undo(self, task: Task) -> None:
        self.lines.append(f"undo {task.inputs}")
        self.keys.append(task.idempotency_key)

    async def broken(self, task: Task) -> None:
        raise ValueError("no")

    async def slow(self, task: Task) -> None:
        await asyncio.sleep(10_000)

    async def tell(self, task: Task) -> Any:
        self.lines.append(task.inputs)
        return task.inputs

    @property
    def agents(self) -> dict[str, Any]:
        names = ("do", "undo", "broken", "slow", "tell")
        return {name: getattr(self, name) for name in names}


def done(name: str, *needs: str, **more: Any) -> dict[str, Any]:
    more = {"inputs": name, "dependencies": list(needs), **more}
    return task(name, "do", compensate={"agent": "undo", "inputs": f"{{result.{name}.id}}"}, **more)


LAST = {"name": "clean", "agent": "tell", "inputs": {"status": "{run.status}", "failures": "{run.failures}"}}


def test_compensations_run_in_reverse_order_of_completion_and_finally_after_them(anabranch_system: Start) -> None:
    book = Book()
    s = anabranch_system(agents=book.agents)
    wanted = request(
        done("a"), done("b", "a"), done("c", "b"), task("d", "broken", dependencies=["c"]), **{"finally": [LAST]}
    )
    result = s.run(wanted)

    assert book.lines[:6] == ["do a", "do b", "do c", "undo c", "undo b", "undo a"]
    told = book.lines[6]
    assert told["status"] == "failed"
    assert [(each["task"], each["error_type"]) for each in told["failures"]] == [("d", "ValueError")]
    assert result.status == "failed"
    assert result.compensation == "complete"
    assert len(set(book.keys)) == 3
    assert result.results["clean"] == told


def test_a_compensation_runs_once_for_each_completed_member_in_reverse_order_of_completion(
    anabranch_system: Start,
) -> None:
    book = Book()

    async def odd_fail(task: Task) -> Any:
        if task.inputs % 2:
            raise ValueError("odd")
        return await book.do(task)

    s = anabranch_system(agents={**book.agents, "odd": odd_fail})
    wanted = request(
        done("first"),
        task(
            "wide",
            "odd",
            "{item}",
            dependencies=["first"],
            expansion_config=array(list(range(9))),
            compensate={"agent": "undo", "inputs": {"of": "{item}", "id": "{result.wide.id}", "was": "{inputs}"}},
            max_concurrency=1,
        ),
    )
    run = s.submit(wanted)
    result = run.result()

    undone = [line for line in book.lines if str(line).startswith("undo")]
    assert undone == [f"undo {{'of': {n}, 'id': {n}, 'was': {n}}}" for n in (8, 6, 4, 2, 0)] + ["undo first"]
    assert (result.status, result.compensation) == ("failed", "complete")
    assert [e["type"] for e in run.events() if e["type"].startswith("run.")] == [
        "run.accepted",
        "run.compensating",
        "run.failed",
    ]


def test_an_expansion_without_members_has_nothing_to_undo(anabranch_system: Start) -> None:
    book = Book()
    empty = task("e", "do", "{item}", expansion_config=array([]), compensate={"agent": "undo"})
    result = anabranch_system(agents=book.agents).run(request(empty, task("c", "broken")))

    assert (result.status, result.compensation, book.lines) == ("failed", None, [])


def test_a_completed_run_is_not_compensated_and_does_not_say_so(anabranch_system: Start) -> None:
    book = Book()
    result = anabranch_system(agents=book.agents).run(request(done("a")))

    assert book.lines == ["do a"]
    assert (result.status, result.compensation) == ("completed", None)
    assert "compensation" not in result.to_document()


@pytest.mark.parametrize("way", ["cancel", "timeout", "cancel while paused"])
def test_finally_runs_on_cancel_and_on_timeout(anabranch_system: Start, way: str) -> None:
    book = Book()
    s = anabranch_system(agents=book.agents)
    late = {**LAST, "dependencies": ["a", "never"], "inputs": {**LAST["inputs"], "a": "{a}", "never": "{never}"}}
    wanted = request(done("a"), task("never", "slow", dependencies=["a"]), timeout=30, **{"finally": [late]})
    run = s.submit(wanted)
    if way != "timeout":
        s.advance(5)
        if way == "cancel while paused":
            run.pause()
            s.advance(1)
        run.cancel()
    result = run.result(timeout=120)

    status = "timed_out" if way == "timeout" else "cancelled"
    assert (result.status, result.compensation) == (status, "complete")
    assert book.lines[:2] == ["do a", "undo a"]
    assert book.lines[2] == {"status": status, "failures": [], "a": {"id": "a"}, "never": "{never}"}


def test_a_failure_in_finally_fails_a_run_that_completed(anabranch_system: Start) -> None:
    book = Book()
    s = anabranch_system(agents=book.agents)
    last = [{"name": "clean", "agent": "broken"}]
    result = s.run(request(done("a"), **{"finally": last}))

    assert (result.status, result.compensation) == ("failed", None)
    assert [(each["group"], each["task"]) for each in result.failures] == [("finally", "clean")]
    assert book.lines == ["do a"]


def test_a_failure_in_finally_is_told_beside_that_of_the_run(anabranch_system: Start) -> None:
    book = Book()
    last = [{"name": "clean", "agent": "broken"}]
    result = anabranch_system(agents=book.agents).run(request(task("a", "broken"), **{"finally": last}))

    assert result.status == "failed"
    assert [each["group"] for each in result.failures] == ["g", "finally"]


@pytest.mark.parametrize("own", [None, 7])
def test_a_task_in_finally_has_a_timeout_of_its_own(anabranch_system: Start, own: int | None) -> None:
    book = Book()
    s = anabranch_system(agents=book.agents)
    last = {"name": "clean", "agent": "slow"} | ({} if own is None else {"timeout": own})
    result = s.run(request(task("a"), timeout=20, **{"finally": [last]}), timeout=1_000)

    assert result.status == "failed"
    assert [each["error_type"] for each in result.failures] == ["AttemptTimeout"]
    assert result.duration_seconds == pytest.approx(own or 300, abs=5)


def test_a_compensation_that_fails_for_good_is_a_dead_letter_and_the_others_go_on(anabranch_system: Start) -> None:
    book = Book()
    tried: list[int] = []

    async def stubborn(task: Task) -> None:
        tried.append(task.attempt)
        raise OSError("still there")

    s = anabranch_system(agents={**book.agents, "stubborn": stubborn})
    retry = {"strategy": "fixed", "delay": 5, "max_attempts": 3}
    b = done("b", "a") | {"compensate": {"agent": "stubborn", "retry": retry}}
    result = s.run(request(done("a"), b, task("c", "broken", dependencies=["b"])))

    assert tried == [1, 2, 3]
    assert book.lines == ["do a", "do b", "undo a"]
    assert (result.status, result.compensation) == ("failed", "incomplete")
    assert [(each["group"], each["task"]) for each in result.failures] == [("g", "c"), ("compensate", "b")]
    letters = [record for record in s.records("dead-letters") if b'"compensate"' in record.value]
    assert len(letters) == 1


def test_a_retry_runs_compensated_tasks_again(anabranch_system: Start) -> None:
    book = Book()
    is_broken = True

    async def flaky(task: Task) -> str:
        if is_broken:
            raise ValueError("not yet")
        return "fine"

    s = anabranch_system(agents={**book.agents, "flaky": flaky})
    run = s.submit(request(done("a"), task("kept"), task("c", "flaky", dependencies=["a"]), **{"finally": [LAST]}))
    assert run.result().status == "failed"
    is_broken = False
    again = s.retry(run)
    result = again.result()

    assert result.completed
    assert result.taken_over == 1
    assert [line for line in book.lines if isinstance(line, str)] == ["do a", "undo a", "do a"]
    assert [line["status"] for line in book.lines if isinstance(line, dict)] == ["failed", "completed"]


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("kind", ["plain", "array", "matrix"])
def test_a_compensation_sees_the_results_of_its_member(anabranch_system: Start, kind: str, size: int) -> None:
    seen: list[Any] = []

    async def make(task: Task) -> Any:
        return {"id": f"made {task.inputs}", "page": "x" * size}

    async def undo(task: Task) -> None:
        seen.append(task.inputs)

    async def broken(task: Task) -> None:
        raise ValueError("no")

    expansion = {
        "plain": {},
        "array": {"expansion_config": array(["p", "q", "r"])},
        "matrix": {"expansion_config": {"type": "matrix", "array_mapping": {"item": ["p", "q"], "n": [1, 2]}}},
    }[kind]
    inputs = {"id": "{id}", "same": "{result.id}", "page": "{page}", "in": "{inputs}"}
    item = "only" if kind == "plain" else "{item}"
    made = task("m", "make", item, result_keys=["id", "page"], compensate={"agent": "undo", "inputs": inputs})
    s = anabranch_system(agents={"make": make, "undo": undo, "broken": broken})
    result = s.run(request(made | expansion, task("z", "broken", dependencies=["id"])))

    items = {"plain": ["only"], "array": ["p", "q", "r"], "matrix": ["p", "p", "q", "q"]}[kind]
    assert result.compensation == "complete", result.failures
    assert sorted(each["in"] for each in seen) == items
    for each in seen:
        assert each == {"id": f"made {each['in']}", "same": each["id"], "page": "x" * size, "in": each["in"]}


@pytest.mark.parametrize("killed", [False, True])
def test_a_takeover_in_the_middle_does_not_compensate_twice(anabranch_system: Start, killed: bool) -> None:
    """A compensation twice: what has completed under one owner does not run under the next one."""
    book = Book()

    async def undo_slowly(task: Task) -> None:
        book.lines.append(f"begin {task.inputs}")
        await asyncio.sleep(20)
        await book.undo(task)

    agents = {**book.agents, "undo": undo_slowly}
    s = anabranch_system(agents=agents)
    installation = Installation(s, agents)
    wanted = request(
        done("a"), done("b", "a"), done("c", "b"), task("d", "broken", dependencies=["c"]), **{"finally": [LAST]}
    )
    run = s.submit(wanted)
    s.advance(30)
    assert book.lines[3:] == ["begin c", "undo c", "begin b"]
    installation.end("taskgroup", killed=killed)
    s.advance(60)
    installation.start("taskgroup")
    result = run.result(timeout=2_000)

    undone = [line for line in book.lines if str(line).startswith("undo")]
    assert undone == ["undo c", "undo b", "undo a"]
    assert (result.status, result.compensation) == ("failed", "complete")
    completed = [e for e in run.events() if (e["type"], e.get("group")) == ("task.completed", "compensate")]
    assert [e["task"] for e in completed] == ["c", "b", "a"]
    assert [line["status"] for line in book.lines if isinstance(line, dict)] == ["failed"]


def test_a_run_that_is_stopped_again_while_it_is_compensated_goes_on(anabranch_system: Start) -> None:
    book = Book()

    async def undo_slowly(task: Task) -> None:
        await asyncio.sleep(400)
        await book.undo(task)

    s = anabranch_system(agents={**book.agents, "undo": undo_slowly})
    retry = {"strategy": "fixed", "delay": 1, "max_attempts": 9}
    undo = {"agent": "undo", "inputs": "{result.a}", "retry": retry}
    a = task("a", "do", "a", compensate=undo)
    run = s.submit(request(a, task("b", "slow", dependencies=["a"]), timeout=60, **{"finally": [LAST]}))
    s.advance(10)
    run.cancel()
    s.advance(10)
    run.cancel()
    result = run.result(timeout=20_000)

    # The attempts of the compensation take longer than they may.
    assert (result.status, result.compensation) == ("cancelled", "incomplete")
    assert book.lines[-1]["status"] == "cancelled"
    assert [each["error_type"] for each in book.lines[-1]["failures"]] == ["AttemptTimeout"]


def test_names_and_tasks_of_the_end_of_a_run_are_checked(anabranch_system: Start) -> None:
    s = anabranch_system(agents=Book().agents)
    undone = {"agent": "undo"}
    groups = [{"name": "compensate", "tasks": [task("a", compensate=undone)]}]
    last = [{"name": "clean", "agent": "tell", "compensate": undone}]
    body = {"name": "L", "loop": {"each": [1, 2]}, "result_keys": ["x"]}
    groups.append({"name": "h", "tasks": [body, task("x", in_loop="L", compensate=undone)]})
    with pytest.raises(RequestRefused) as refused:
        s.run({"task_groups": groups, "finally": last})

    assert [(each.code, each.path) for each in refused.value.errors] == [
        ("schema", "/task_groups/1/tasks/1/compensate"),
        ("schema", "/finally/0/compensate"),
        ("duplicate_name", "/task_groups/0/name"),
    ]


def test_a_run_is_shown_as_compensating_meanwhile(anabranch_system: Start) -> None:
    book = Book()

    async def undo_slowly(task: Task) -> None:
        await asyncio.sleep(60)

    s = anabranch_system(agents={**book.agents, "undo": undo_slowly})
    run = s.submit(request(done("a"), task("b", "broken", dependencies=["a"])))
    s.advance(20)
    view = s.wait(load_view(s.embedded.store, s.embedded.names, run.run_id))

    assert view is not None
    assert (view.status, view.has_ended) == ("compensating", False)
    assert run.result().status == "failed"
    s.advance(5)
    view = s.wait(load_view(s.embedded.store, s.embedded.names, run.run_id))
    assert view is not None
    assert view.status == "failed"
