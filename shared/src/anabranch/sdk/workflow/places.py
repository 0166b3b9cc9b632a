"""Where the user's code called the builder: the place that errors name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

from anabranch.core.errors import AnabranchError, Problem

_HERE = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class WorkflowError(AnabranchError):
    """A workflow cannot be built.

    Attributes:
        problems: why its request would be refused; empty for a call that is wrong by itself.
        places: `file:line` of the call that each problem comes from.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = (), places: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        self.places = tuple(places)


def calling_place() -> Place:
    """The line outside of this package that called it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _is_inside(file: str) -> bool:
    # A context manager is entered and left by a frame of `contextlib`.
    return file.startswith(_HERE) or file.endswith("contextlib.py")


def place_of_function(function: FunctionType) -> Place:
    """The line of a function's definition."""
    return Place(function.__code__.co_filename, function.__code__.co_firstlineno)


def wrong(place: Place, message: str, hint: str = "") -> WorkflowError:
    """The error of a call that is wrong by itself."""
    return WorkflowError(f"{place}: {message}" + (f" ({hint})" if hint else ""))
