"""The result of a conversion, and the collector of what could not be converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.request.envelope import json_pointer

Path = tuple[str | int, ...]
"""Where something stands in the document that is converted."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A request, or the reasons why there is none.

    Attributes:
        request: the request; None if there are errors.
        errors: the parts that cannot be converted, each with its path in the pipeline.
        warnings: the parts that were left out or mean something slightly different in the request.
    """

    request: dict[str, Any] | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def required(self) -> dict[str, Any]:
        """The request.

        Raises:
            RequestRefused: the pipeline cannot be converted.
        """
        if self.request is None:
            raise RequestRefused(self.errors, [str(each) for each in self.warnings])
        return self.request

    def to_document(self) -> dict[str, Any]:
        """``{request, errors, warnings}``, as `anabranch convert --json` prints it."""
        return {
            "request": self.request,
            "errors": [each.to_document() for each in self.errors],
            "warnings": [each.to_document() for each in self.warnings],
        }


class Findings:
    """Collects errors and warnings; equal ones count once."""

    def __init__(self) -> None:
        self.errors: dict[Problem, None] = {}
        self.warnings: dict[Problem, None] = {}

    def unsupported(self, path: Path, message: str, hint: str = "") -> None:
        """A part that has no counterpart in a request."""
        self.errors[Problem(Code.NOT_SUPPORTED, json_pointer(path), message, hint)] = None

    def wrong(self, path: Path, message: str, hint: str = "") -> None:
        """A part that is no valid pipeline of the other system."""
        self.errors[Problem(Code.SCHEMA, json_pointer(path), message, hint)] = None

    def warn(self, path: Path, message: str, hint: str = "") -> None:
        """A part that is left out, or that means something slightly different."""
        self.warnings[Problem(Code.NOT_SUPPORTED, json_pointer(path), message, hint)] = None

    def unknown_fields(self, path: Path, given: Mapping[str, Any], known: Sequence[str]) -> None:
        """An error for each field that is not known."""
        for name in given:
            if name not in known:
                self.unsupported((*path, name), f"the field {name!r} cannot be converted", "leave it out")

    def result(self, request: dict[str, Any] | None) -> Conversion:
        """The conversion: without a request, if there are errors."""
        errors, warnings = tuple(self.errors), tuple(self.warnings)
        return Conversion(None if errors else request, errors, warnings)


def mapping(findings: Findings, path: Path, value: Any) -> dict[str, Any]:
    """The object at a path; null is an empty one, anything else an error."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    findings.wrong(path, f"must be an object, not {type_name(value)}")
    return {}


def type_name(value: Any) -> str:
    """The JSON type of a value, for messages."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
