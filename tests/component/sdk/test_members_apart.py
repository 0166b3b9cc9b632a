"""Members, and attempts of a member, share nothing that they could change."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch import Task
from anabranch.sdk.own_values import OwnValues
from anabranch.testing import System

Start = Callable[..., System]
SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="unset")
MUTABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("mutable")

GIVEN = {"a": {"b": [1, 2, {"c": 3}]}}
CHANGED = "changed"


def spoil(value: Any) -> None:
    """Change a value at every level."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value.clear()
        value[CHANGED] = True
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append(CHANGED)


def given(task: Task) -> dict[str, Any]:
    """The values passed to an attempt, as text, before the attempt changes them."""
    parts = {
        "inputs": task.inputs,
        "message": task.message,
        "instructions": task.instructions,
        "variables": task.variables,
        "context": dict(task.context),
    }
    text = repr(parts)
    for part in parts.values():
        spoil(part)
    for key in task.context:
        spoil(task.context[key])
    return {"saw": text}


async def on_the_loop(task: Task) -> dict[str, Any]:
    return given(task)


def in_a_thread(task: Task) -> dict[str, Any]:
    return given(task)


WIDE = task(
    "out",
    "spoils",
    inputs={"whole": "{doc}", "item": "{item}", "fixed": GIVEN},
    message_template=[GIVEN],
    shared_instructions={"shared": GIVEN},
    dependencies=["doc"],
    expansion_config=array([GIVEN] * 3),
)


@pytest.mark.parametrize("agent", [on_the_loop, in_a_thread])
def test_no_member_sees_what_another_changed(anabranch_system: Start, agent: Callable[[Task], Any]) -> None:
    s = anabranch_system(agents={"spoils": agent})
    result = s.run(request(WIDE, context={"doc": GIVEN}))

    saw = {each["saw"] for each in result.results["out"]}
    assert len(saw) == 1
    assert CHANGED not in saw.pop()


def test_no_attempt_sees_what_an_earlier_one_changed(anabranch_system: Start) -> None:
    async def fails_once(task: Task) -> dict[str, Any]:
        saw = given(task)
        if task.attempt < 3:
            raise ValueError(f"attempt {task.attempt}")
        return saw

    s = anabranch_system(agents={"spoils": fails_once})
    retry = {"strategy": "immediate", "max_attempts": 3}
    result = s.run(request({**WIDE, "retry": retry}, context={"doc": GIVEN}))

    assert CHANGED not in repr(result.results)


def test_what_an_attempt_changed_stays_its_own() -> None:
    values = OwnValues({"k": {"list": [1]}, "n": 1})
    values["k"]["list"].append(2)

    assert values["k"] == {"list": [1, 2]}
    assert dict(values) == {"k": {"list": [1, 2]}, "n": 1}
    assert (values | {"n": 2})["n"] == 2
    assert ({"n": 2} | values)["n"] == 1
    with pytest.raises(KeyError):
        values["absent"]


# --- context variables ------------------------------------------------------------------------------


async def sets(task: Task) -> str:
    seen = SEEN.get()
    SEEN.set(f"member {task.index}")
    return seen


async def waits_and_sets(task: Task) -> str:
    seen = SEEN.get()
    SEEN.set(f"member {task.index}")
    await asyncio.sleep(0.01)
    assert SEEN.get() == f"member {task.index}"
    return seen


async def sets_what_cannot_be_compared(task: Task) -> str:
    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise SystemExit(3)

        __hash__ = None  # type: ignore[assignment]

    seen = "set" if MUTABLE.get(None) is not None else "unset"
    MUTABLE.set(Incomparable())
    return seen


def sets_in_a_thread(task: Task) -> str:
    seen = SEEN.get()
    SEEN.set(f"member {task.index}")
    return seen


async def sets_and_fails(task: Task) -> str:
    seen = SEEN.get()
    SEEN.set("an earlier attempt")
    if task.attempt == 1:
        raise ValueError(seen)
    return seen


@pytest.mark.parametrize(
    "agent", [sets, waits_and_sets, sets_in_a_thread, sets_and_fails, sets_what_cannot_be_compared]
)
def test_each_member_has_a_context_of_its_own(anabranch_system: Start, agent: Callable[[Task], Any]) -> None:
    s = anabranch_system(agents={"sets": agent}, concurrency=2)
    result = s.run(
        request(task("out", "sets", expansion_config=array(list(range(50))), retry={"strategy": "immediate"}))
    )

    assert result.results["out"] == ["unset"] * 50


def test_each_member_has_a_decimal_context_of_its_own(anabranch_system: Start) -> None:
    decimal.getcontext()  # from here on the context of this test has one, which its copies would share

    async def calculates(task: Task) -> str:
        found = str(decimal.Decimal(1) / 3)
        decimal.getcontext().prec = 2
        return found

    s = anabranch_system(agents={"calculates": calculates})
    result = s.run(request(task("out", "calculates", expansion_config=array([1, 2, 3]))))

    assert set(result.results["out"]) == {str(decimal.Decimal(1) / 3)}


def test_a_waiting_agent_resumes_with_its_own_context(anabranch_system: Start) -> None:
    seen: list[Any] = []

    async def limits_itself(task: Task) -> bool:
        before = asyncio.current_task()
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(50)
        except TimeoutError:
            seen.append(before)
            return asyncio.current_task() is before and before is not None and before.cancelling() == 0
        return False

    async def cannot_wait(task: Task) -> bool:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(50)
        except TimeoutError:
            return True
        return False

    s = anabranch_system(agents={"limits": limits_itself, "none": cannot_wait})
    members = array([1, 2, 3])
    result = s.run(
        request(task("out", "limits", expansion_config=members), task("none", "none", expansion_config=members))
    )

    assert result.results == {"out": [True] * 3, "none": [True] * 3}
    assert len(set(map(id, seen))) == 3


def test_an_agent_cancels_only_its_own_tasks(anabranch_system: Start) -> None:
    """A member that cancels itself and returns without waiting leaves the next one alone."""

    async def cancels(task: Task) -> int | None:
        current = asyncio.current_task()
        assert current is not None
        if task.index == 0:
            current.cancel()
            return 0
        await asyncio.sleep(0.01)
        return task.index

    s = anabranch_system(agents={"cancels": cancels}, concurrency=1)
    result = s.run(request(task("out", "cancels", expansion_config=array([1, 2, 3]))))

    assert result.results == {"out": [0, 1, 2]}
