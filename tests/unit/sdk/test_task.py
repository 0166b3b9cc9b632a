"""The task that an agent gets, and the validation of its result."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from anabranch import ResultError, Task
from anabranch.sdk.outcome import encode_value, values_of


def test_the_idempotency_key_is_of_the_member_and_not_of_the_attempt() -> None:
    def key(**changed: Any) -> str:
        member: dict[str, Any] = {"name": "t_1", "task_name": "t", "group": "g", "run_id": "r", "index": 0}
        return Task(**{**member, **changed}).idempotency_key

    assert key() == key(attempt=4)
    assert len({key(), key(index=1), key(group="h"), key(run_id="s"), key(task_name="t_1", index=None)}) == 5


def test_the_context_is_read_only() -> None:
    task = Task(name="t", context={"a": 1})

    with pytest.raises(TypeError):
        task.context["a"] = 2  # type: ignore[index]
    assert dict(task.context) == {"a": 1}


def test_cancellation_is_seen_from_any_thread() -> None:
    flag = threading.Event()
    task = Task(name="t", stop=flag)
    before = task.cancelled
    flag.set()

    assert (before, task.cancelled, Task(name="t").cancelled) == (False, True, False)


async def test_progress_is_reported_within_0_and_1() -> None:
    reported: list[tuple[float, str]] = []

    async def report(fraction: float, note: str) -> None:
        reported.append((fraction, note))

    task = Task(name="t", report=report)
    await task.progress(0.5, "half")
    await task.progress(3)
    with pytest.raises(ValueError, match="NaN"):
        await task.progress(float("nan"))

    assert reported == [(0.5, "half"), (1.0, "")]
    await Task(name="t").progress(1)


def test_log_records_have_the_ids_of_their_member(caplog: pytest.LogCaptureFixture) -> None:
    task = Task(name="t_1", task_name="t", group="g", run_id="r", attempt=2)

    task.log.warning("hello", extra={"own": 1})

    (record,) = caplog.records
    found = {name: vars(record)[name] for name in ("run", "group", "task", "member", "attempt", "own")}
    assert found == {"run": "r", "group": "g", "task": "t", "member": "t_1", "attempt": 2, "own": 1}


def test_one_key_takes_the_value_itself() -> None:
    assert values_of({"a": 1}, ["a"]) == [{"a": 1}]
    assert values_of(None, ["a"]) == [None]


def test_several_keys_take_an_object_with_each() -> None:
    @dataclass
    class Pair:
        b: int
        a: int

    class Model(BaseModel):
        a: int
        b: int

    assert values_of({"b": 2, "a": 1, "more": 3}, ["a", "b"]) == [1, 2]
    assert values_of(Pair(b=2, a=1), ["a", "b"]) == [1, 2]
    assert values_of(Model(a=1, b=2), ["a", "b"]) == [1, 2]
    assert values_of({"a": 1}, ["a", "b"], ["b"]) == [1, None]


@pytest.mark.parametrize(
    ("returned", "message", "missing"),
    [
        ({"a": 1}, "lacks 'b', 'c'; it has 'a'", ("b", "c")),
        ([1, 2, 3], "a value of type list", ("a", "b", "c")),
        (None, "returned nothing", ("a", "b", "c")),
    ],
)
def test_missing_keys_are_named(returned: object, message: str, missing: tuple[str, ...]) -> None:
    with pytest.raises(ResultError, match=message) as refused:
        values_of(returned, ["a", "b", "c", "d"], ["d"])

    assert refused.value.missing == missing


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: float
    tags: set[str] = set()


@dataclass
class Box:
    point: Point


Named = namedtuple("Named", "a b")


@pytest.mark.parametrize(
    ("value", "json"),
    [
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        ((1, 2), "[1,2]"),
        (Named(1, 2), "[1,2]"),
        (OrderedDict(a=1), '{"a":1}'),
        (Colour.RED, '"red"'),
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
        (Box(Point(x=1, tags={"t"})), '{"point":{"x":1.0,"tags":["t"]}}'),
        (b"".decode(), '""'),
    ],
)
def test_values_with_a_json_form_are_accepted(value: object, json: str) -> None:
    assert encode_value(value).decode() == json


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [{1, 2}]}, "value of type set at /items/0"),
        ({"a/b": {"c~": object()}}, "value of type object at /a~1b/c~0"),
        (b"bytes", "value of type bytes at the top"),
        ([1.0, float("nan")], "nan at /1"),
        ({"a": float("-inf"), "b": None}, "-inf at /a"),
        (Box(Point(x=float("inf"))), "inf at /point/x"),
        ({"a": {1: "x"}}, r"a key of type int \(1\) at /a"),
        ([2**70], "an integer of more than 64 bits at /0"),
        ("\ud800", "lone surrogate"),
        (looped(), "nested deeper than"),
    ],
)
def test_an_error_for_a_value_without_json_form_has_its_path(value: object, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        encode_value(value)


def test_a_task_is_small() -> None:
    with pytest.raises(AttributeError):
        Task(name="t").other = 1  # type: ignore[attr-defined]
    assert not hasattr(Task(name="t"), "__dict__")


def test_agents_of_both_kinds_take_a_task() -> None:
    async def later(task: Task) -> str:
        return task.name

    assert asyncio.run(later(Task(name="t"))) == "t"
