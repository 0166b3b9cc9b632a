"""Results of agents: conversion of subclasses and models; errors for values without JSON name the path."""

from __future__ import annotations

import enum
import uuid
from collections import UserDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import orjson
import pytest
from pydantic import BaseModel, RootModel

from anabranch import Task, agent
from anabranch.core.errors import ResultError
from anabranch.sdk.outcome import encode_value, items_of, values_of
from anabranch.testing import system


class Text(str):
    """As `markupsafe.Markup` and `numpy.str_` are."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Whole(int):
    pass


class Real(float):
    pass


class Moment(datetime):
    """As those of pandas and pendulum are."""


class Day(date):
    pass


class Hour(time):
    pass


class Id(uuid.UUID):
    pass


class Items(list[Any]):
    pass


class Shade(enum.StrEnum):
    RED = "red"


class Holder(enum.Enum):
    DAY = date(2026, 1, 2)


class Nested(BaseModel):
    at: datetime
    tags: set[str] = set()


class Rows(RootModel[list[int]]):
    pass


@dataclass
class Slotted:
    value: Any
    _hidden: int = 0


class Array:
    """As an array of numpy is."""

    def __init__(self, items: list[Any], kind: str = "i") -> None:
        self._items = items
        self.kind = kind

    @property
    def dtype(self) -> Any:
        return self

    def tolist(self) -> list[Any]:
        return self._items

    def astype(self, kind: type) -> Array:
        return Array([f"{each} as text" for each in self._items])


UUID_TEXT = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (Text("a"), "a"),
        ({Text("key"): Text("a")}, {"key": "a"}),
        ({Shade.RED: 1}, {"red": 1}),
        ([{Text("key"): [{Text("b"): 1.5}]}], [{"key": [{"b": 1.5}]}]),
        (Whole(3), 3),
        (Real(1.5), 1.5),
        (Moment(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        ({"a": Moment(2026, 1, 2)}, {"a": "2026-01-02T00:00:00"}),
        (Day(2026, 1, 2), "2026-01-02"),
        (Hour(3, 4), "03:04:00"),
        (time(3, 4, tzinfo=UTC), "03:04:00+00:00"),
        (Id(UUID_TEXT), UUID_TEXT),
        (Items([Text("a")]), ["a"]),
        ((1, (Text("a"),)), [1, ["a"]]),
        (defaultdict(list, {Text("a"): [1]}), {"a": [1]}),
        (UserDict({Text("a"): 1}), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Holder.DAY, "2026-01-02"),
        (Nested(at=Moment(2026, 1, 2)), {"at": "2026-01-02T00:00:00", "tags": []}),
        (Rows([1, 2]), [1, 2]),
        (Slotted({Text("a"): None}), {"value": {"a": None}}),
        (Array([1, Text("a")]), [1, "a"]),
        (Array([1], "M"), ["1 as text"]),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("a/b"), "a/b"),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (True, True),
    ],
)
def test_subclasses_and_models_are_converted_to_json(value: object, meant: object) -> None:
    assert orjson.loads(encode_value(value)) == meant


def test_fields_of_several_result_keys_may_be_of_any_subclass() -> None:
    assert values_of({Text("a"): 1, "b": 2}, ["a", "b"]) == [1, 2]
    assert values_of(UserDict({"a": 1, "b": 2}), ["a", "b"]) == [1, 2]


class Sly:
    """Returns something for any attribute, or claims another class."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any) -> Any:
        return self


class Raising:
    def __getattribute__(self, name: str) -> Any:
        raise OSError("no attribute for you")

    def __repr__(self) -> str:
        raise OSError("no text for you")


class Endless(Mapping[str, int]):
    def __iter__(self) -> Iterator[str]:
        while True:
            yield "a"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> int:
        return 1


class Unread(Mapping[str, int]):
    def __iter__(self) -> Iterator[str]:
        raise KeyError("gone")

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)


class Selfish(Mapping[str, Any]):
    def __iter__(self) -> Iterator[str]:
        yield "me"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Any:
        return self


class BadModel(BaseModel):
    value: Any


class BadField:
    pass


def broken_dataclass() -> object:
    @dataclass(slots=True)
    class Broken:
        value: int = field(init=False)

    return Broken()


class BadZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise OSError("no such zone")


class NotATime(datetime):
    """As `pandas.NaT` is."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


def looped() -> Any:
    loop: dict[str, Any] = {}
    loop["again"] = [loop, loop]
    return loop


def forever() -> Iterator[int]:
    while True:
        yield 1


async def later() -> None: ...


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda: {"items": [1, {"when": b"bytes"}]},
            r"bytes at /items/1/when: decode it to text, or encode it with base64",
        ),
        (lambda: {Text("a"): {1, 2}}, r"type set at /a: return a list, such as sorted\(...\)"),
        (lambda: [frozenset("a")], "type frozenset at /0"),
        (lambda: {"a": timedelta(1)}, r"type timedelta at /a: return its total_seconds\(\)"),
        (lambda: [Fraction(1, 3)], "type Fraction at /0"),
        (lambda: [1j], "type complex at /0"),
        (lambda: [Decimal("NaN")], "NaN at /0"),
        (lambda: {"a": [Real("nan")]}, "nan at /a/0"),
        (lambda: {"a": None, "b": Array([float("inf")])}, "inf at /b/0"),
        (lambda: NotATime(2026, 1, 1), "NotATime at the top: there is no such time"),
        (lambda: {"a": Array([1], "m")}, "a duration of numpy at /a"),
        (lambda: {"a": {(1, 2): "x"}}, r"a key of type tuple \(\(1, 2\)\) at /a: keys are text"),
        (lambda: {"a": {Text("\ud800"): 1}}, "lone surrogate at /a"),
        (lambda: {"a": [Text("\udfff")]}, "lone surrogate at /a/0"),
        (lambda: {Text("a"): [-(2**63) - 1]}, "more than 64 bits at /a/0"),
        (lambda: {"a": Whole(2**64)}, "more than 64 bits at /a"),
        (lambda: [Sly()], "type Sly at /0"),
        (lambda: [Raising()], "type Raising at /0"),
        (lambda: {"a": {Raising(): 1}}, r"a key of type Raising \(its __repr__ raised OSError\) at /a"),
        (lambda: {"a": Endless()}, "a mapping of more than 1,000,000 keys at /a"),
        (lambda: {"a": Unread()}, r"type Unread that cannot be read \(KeyError: 'gone'\) at /a"),
        (lambda: Selfish(), "nested deeper than 200 levels at /me/me/me"),
        (lambda: {"a": broken_dataclass()}, r"Broken that cannot be read \(AttributeError.*\) at /a"),
        (
            lambda: [BadModel(value=BadField())],
            r"BadModel that cannot be read \(PydanticSerializationError.*\) at /0",
        ),
        (lambda: [datetime(2026, 1, 2, tzinfo=BadZone())], r"datetime that cannot be read \(OSError: .*\) at /0"),
        (lambda: {"a": looped()}, "nested deeper than 200 levels at /a/again/0/again"),
        (lambda: {"a": forever()}, "type generator at /a: collect it in a list"),
        (lambda: {"a": {}.keys()}, "type dict_keys at /a: return a list of it"),
        (lambda: {"a": BadField}, "type type at /a: return an instance"),
        (lambda: {"a": ValueError("x")}, "type ValueError at /a: raise it"),
        (lambda: MagicMock(), "type MagicMock at the top"),
    ],
)
def test_a_value_without_json_is_named_with_its_path(value: Callable[[], object], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        encode_value(value())


def test_a_coroutine_is_refused_with_the_fix() -> None:
    made = later()
    with pytest.raises(ResultError, match="type coroutine at /0: await it"):
        encode_value([made])
    made.close()


def test_the_result_key_of_a_refused_value_is_named() -> None:
    with pytest.raises(ResultError, match=r"result key 'rows': value of type bytes at /0/when"):
        encode_value([{"when": b""}], "rows")


@pytest.mark.parametrize("returned", [Endless, Unread, broken_dataclass, Sly, Raising])
def test_hostile_objects_are_refused_as_results_of_several_keys(returned: Callable[[], object]) -> None:
    with pytest.raises(ResultError):
        values_of(returned(), ["a", "b"])


def test_the_names_of_a_large_result_are_not_all_listed() -> None:
    with pytest.raises(ResultError) as refused:
        values_of({str(number): 1 for number in range(100_000)}, ["a", "b"])

    assert len(str(refused.value)) < 1_000


def test_a_deep_result_with_a_null_is_taken() -> None:
    value: Any = Slotted(None)
    for _ in range(199):
        value = Slotted(value)

    assert encode_value(value).startswith(b'{"value":{"value":')


@pytest.mark.parametrize(
    ("value", "items"),
    [([1, 2], 2), ((1, 2), 2), (Array([1, 2, 3]), 3), (Rows([1]), 1), ("[1,2]", 1), ({}, 1), ((), 0)],
)
def test_array_like_values_contribute_their_items_to_a_merged_list(value: object, items: int) -> None:
    assert items_of(value, encode_value(value)) == items


@agent("pairs")
def pairs(task: Task) -> Any:
    return (task.index, Text("x" * 1_000))


@agent("odd")
def odd(task: Task) -> Any:
    return {"fine": 1, "bad": [{"when": Raising()}]}


def test_a_run_with_such_values_ends_and_names_the_result_key() -> None:
    expansion = {"type": "array", "array_mapping": {"n": list(range(200))}}
    tasks = [
        {"name": "pairs", "agent": "pairs", "result_keys": ["pairs"], "expansion_config": expansion},
        {"name": "odd", "agent": "odd", "result_keys": ["fine", "bad"]},
    ]
    with system(agents=[pairs, odd]) as s:
        result = s.run({"task_groups": [{"name": "g", "tasks": tasks}]})

    (failure,) = result.failures
    assert failure["error_type"] == "ResultError"
    assert "result key 'bad': value of type Raising at /0/when" in failure["message"]
    assert [each for each in result.results["pairs"] if isinstance(each, int)] == list(range(200))
