"""Error records of exceptions with hostile classes."""

from __future__ import annotations

import copy
import functools
import linecache
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from anabranch.core.error_records import (
    MESSAGE_CHARACTERS,
    TRACEBACK_BYTES,
    TRACEBACK_FRAMES,
    TYPE_CHARACTERS,
    error_record,
)
from anabranch.core.errors import GiveUp, RetryLater
from anabranch.sdk.outcome import values_of


def raised(error: BaseException) -> BaseException:
    """The error as it is caught after having been raised."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001  # any class is raised here
        return caught


class LyingMeta(type):
    """A metaclass whose classes cannot be named, compared, hashed or listed."""

    __hash__ = None  # type: ignore[assignment]

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no comparison")


class Lying(Exception, metaclass=LyingMeta):
    """Claims to be another class; reading its message, notes and causes raises."""

    @property
    def __class__(self) -> type:
        return GiveUp

    @property
    def __cause__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no cause")

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no traceback")

    def __str__(self) -> str:
        raise SystemExit(3)


class TextOf(Exception):
    """An exception whose message is the given object."""

    def __str__(self) -> str:
        value: str = self.args[0]
        return value


class Endless(Exception):
    """Its text refers to itself."""

    def __str__(self) -> str:
        return str(self)


def test_an_error_is_recorded_with_its_type_text_and_bases() -> None:
    record = error_record(KeyError("k"))

    assert (record.type, record.message, record.retry_after) == ("KeyError", "'k'", None)
    assert {"KeyError", "builtins.KeyError", "LookupError", "Exception"} <= set(record.names)


def test_a_class_that_lies_about_itself_is_recorded_as_what_it_is() -> None:
    record = error_record(raised(Lying()))

    assert record.type == "Lying"
    assert "GiveUp" not in record.names
    assert record.message == "the message of this Lying is not available: its __str__ raised SystemExit"
    assert "in raised" in (record.traceback or "")


@pytest.mark.parametrize("error", [TextOf(7), TextOf(None), Endless()])
def test_an_error_without_text_has_a_message_that_says_so(error: Exception) -> None:
    assert "is not available" in error_record(error).message


@pytest.mark.parametrize("text", ["a\udc80b", "a\0b", "x" * 5_000_000, "\udfff" * 5_000])
def test_a_text_is_bounded_and_can_be_stored(text: str) -> None:
    record = error_record(raised(TextOf(text)))

    assert orjson.dumps(record.message)
    assert "\0" not in record.message
    assert len(record.message) <= MESSAGE_CHARACTERS
    assert len((record.traceback or "").encode()) <= TRACEBACK_BYTES


def test_a_type_name_is_bounded() -> None:
    record = error_record(type("N" * 5_000, (Exception,), {})())

    assert record.type == "N" * (TYPE_CHARACTERS - 1) + "…"


@pytest.mark.parametrize(
    "group",
    [
        ExceptionGroup("unhandled errors", [ValueError("a"), GiveUp("no such customer")]),
        BaseExceptionGroup("outer", [KeyboardInterrupt(), ExceptionGroup("inner", [GiveUp("no such customer")])]),
        ExceptionGroup("both", [RetryLater(5), GiveUp("no such customer")]),
    ],
)
def test_a_group_that_contains_a_give_up_is_not_retried(group: BaseException) -> None:
    record = error_record(group)

    assert (record.type, record.message) == ("GiveUp", "no such customer")
    assert "GiveUp" in record.names


def test_a_group_is_retried_after_its_longest_requested_delay() -> None:
    record = error_record(ExceptionGroup("g", [RetryLater(5, "busy"), ValueError("a"), RetryLater("1m")]))

    assert (record.type, record.message, record.retry_after) == ("RetryLater", "busy", 60.0)


@pytest.mark.parametrize(
    ("leaves", "type_", "message"),
    [
        ([ValueError("a")], "ValueError", "a"),
        ([ValueError("a"), ValueError("b")], "ValueError", "a; b"),
        ([ValueError("a"), KeyError("b")], "ExceptionGroup", "ValueError: a; KeyError: 'b'"),
        ([ValueError(n) for n in "abcde"], "ValueError", "a; b; c (and 2 more)"),
    ],
)
def test_the_message_of_a_group_is_that_of_its_first_leaves(
    leaves: list[Exception], type_: str, message: str
) -> None:
    record = error_record(ExceptionGroup("unhandled errors in a TaskGroup", leaves))

    assert (record.type, record.message) == (type_, message)
    assert {type(leaf).__name__ for leaf in leaves} <= set(record.names)


def test_a_group_may_be_nested_deeper_than_python_recurses() -> None:
    error: Exception = GiveUp("deep")
    for _ in range(20_000):
        error = ExceptionGroup("g", [error])

    assert error_record(error).message == "deep"


def test_a_retry_later_without_a_time_follows_the_policy() -> None:
    class NoTime(RetryLater):
        def __init__(self) -> None:
            Exception.__init__(self, "later")

    assert error_record(NoTime()).retry_after is None


# --- tracebacks -------------------------------------------------------------------------------------


def fails_below(depth: int, error: Callable[[], Exception]) -> None:
    """Raises at this call depth."""
    if depth:
        return fails_below(depth - 1, error)
    raise error()


def caught(call: Callable[[], Any]) -> BaseException:
    """The exception raised by a call."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # any class is raised here
        return error
    raise AssertionError("nothing was raised")


def frames_in(text: str | None) -> int:
    return (text or "").count('  File "')


def test_a_traceback_has_the_innermost_frames() -> None:
    def climb(depth: int) -> None:
        if depth % 2:
            return climb(depth - 1)
        return fails_below(0, lambda: ValueError("deep")) if not depth else climb(depth - 1)

    found = error_record(caught(lambda: climb(100))).traceback or ""

    assert "in fails_below" in found
    assert found.endswith("ValueError: deep\n")
    assert "in caught" not in found
    assert frames_in(found) <= TRACEBACK_FRAMES


def test_a_traceback_has_the_cause_and_no_more_frames_for_it() -> None:
    def wraps() -> None:
        try:
            fails_below(50, lambda: KeyError("inner"))
        except KeyError as error:
            raise ValueError("outer") from error

    found = error_record(caught(wraps)).traceback or ""

    assert "KeyError: 'inner'" in found
    assert "direct cause" in found
    assert found.endswith("ValueError: outer\n")
    assert frames_in(found) <= TRACEBACK_FRAMES


def test_a_traceback_of_a_group_has_its_first_leaf() -> None:
    leaf = caught(lambda: fails_below(1, lambda: ValueError("leaf")))
    assert isinstance(leaf, Exception)
    found = error_record(raised(ExceptionGroup("g", [leaf]))).traceback or ""

    assert "in fails_below" in found
    assert "number 1 of 1 in the group below" in found


def test_an_error_that_was_never_raised_has_no_traceback() -> None:
    assert error_record(ValueError("x")).traceback is None


def test_the_agents_frames_are_kept_among_many_of_a_library() -> None:
    class NoCopy:
        def __deepcopy__(self, memo: object) -> None:
            raise RuntimeError("no copy")

    def agents_code() -> Any:
        nested: Any = NoCopy()
        for _ in range(100):
            nested = [nested]
        return copy.deepcopy(nested)

    found = error_record(caught(agents_code)).traceback or ""

    assert frames_in(found) == TRACEBACK_FRAMES
    assert "in agents_code" in found
    assert "in __deepcopy__" in found
    assert "frames are left out]" in found


def test_causes_are_kept_beside_a_deep_error() -> None:
    def wraps() -> None:
        try:
            fails_below(50, lambda: KeyError("first"))
        except KeyError as error:
            try:
                fails_below(50, lambda: OSError("second"))
            except OSError as second:
                second.__cause__ = error
                fails_below_from(50, second)

    def fails_below_from(depth: int, cause: Exception) -> None:
        if depth:
            return fails_below_from(depth - 1, cause)
        raise ValueError("third") from cause

    found = error_record(caught(wraps)).traceback or ""

    assert [text in found for text in ("KeyError: 'first'", "OSError: second", "ValueError: third")] == [True] * 3
    assert found.count("direct cause") == 2
    assert frames_in(found) == TRACEBACK_FRAMES


def test_a_traceback_of_a_group_has_each_of_its_first_members() -> None:
    members = [caught(lambda each=each: fails_below(0, lambda: ValueError(each))) for each in "abcde"]
    found = error_record(raised(ExceptionGroup("g", [each for each in members if isinstance(each, Exception)])))

    text = found.traceback or ""
    assert [f"number {n} of 5 in the group below" in text for n in range(1, 6)] == [True] * 3 + [False] * 2
    assert [f"ValueError: {each}\n" in text for each in "abc"] == [True] * 3


def test_frames_of_the_system_are_left_out() -> None:
    of_ours = error_record(caught(lambda: values_of({"a": 1}, ("a", "b"))))
    only_ours = error_record(caught(functools.partial(values_of, {"a": 1}, ("a", "b"))))

    assert "outcome.py" not in (of_ours.traceback or "")
    assert "in <lambda>" in (of_ours.traceback or "")
    assert "in caught" in (only_ours.traceback or "")


def test_long_lines_of_source_are_cut() -> None:
    code = f"def f():\n    raise ValueError('x')  # {'y' * 50_000}\nf()"
    linecache.cache["long.py"] = (len(code), None, code.splitlines(True), "long.py")

    found = error_record(caught(lambda: exec(compile(code, "long.py", "exec"), {}))).traceback or ""

    assert "raise ValueError('x')" in found
    assert len(found) < 2_000


def test_an_exception_that_seldom_has_a_text_is_explained() -> None:
    assert "the run was not" in error_record(CancelledError()).message
    assert error_record(CancelledError("by me")).message == "by me"
    assert error_record(ValueError()).message == ""
