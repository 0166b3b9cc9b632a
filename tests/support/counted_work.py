"""Counts the work of a function, so that a test of its growth does not depend on the speed of a machine.

Work inside of one call of C, such as the search of a regular expression, is not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class TooMuchWorkError(Exception):
    """A function makes more calls than it may."""


def calls_of(function: Callable[[], Any], most: int | None = None) -> int:
    """The number of calls that a function makes, of Python functions and of those in C.

    Raises:
        TooMuchWorkError: it makes more than `most` calls; the function ends at the next one.
    """
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            if most is not None and count > most:
                sys.setprofile(before)
                raise TooMuchWorkError(f"more than {most:,} calls")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def lines_of(function: Callable[[], Any]) -> int:
    """The number of lines that a function executes, itself and in the Python functions that it calls."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        function()
    finally:
        sys.settrace(before)
    return count
