"""Reads fields that occur at several places of a workflow of GitHub Actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anabranch.core.pipelines.conversion import Findings, Path, mapping
from anabranch.core.pipelines.github.values import constant_text


def environment(findings: Findings, path: Path, given: Any) -> dict[str, str]:
    """The variables of an `env`, as they stand."""
    found: dict[str, str] = {}
    for name, value in mapping(findings, path, given).items():
        if not name.replace("_", "a").isalnum() or name[0].isdigit():
            findings.wrong((*path, name), f"{name!r} is no name of a variable")
        elif isinstance(value, (dict, list)):
            findings.wrong((*path, name), "must be a text, a number or a boolean")
        else:
            found[name] = constant_text(value)
    return found


def names_of(findings: Findings, path: Path, given: Any) -> Sequence[str]:
    """A name or a list of names."""
    names = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        findings.wrong(path, "must be a name or a list of names")
        return []
    return names


def minutes(findings: Findings, path: Path, given: Any) -> int | None:
    """A number of minutes, in seconds; None if there is none."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        findings.unsupported(path, "must be a number of minutes")
        return None
    return math.ceil(given * 60)


def flag(findings: Findings, path: Path, given: Any) -> bool:
    """True or false; an expression is an error."""
    if given is not None and not isinstance(given, bool):
        findings.unsupported(path, "must be true or false; an expression is not supported")
    return given is True
