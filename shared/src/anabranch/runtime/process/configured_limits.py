"""Reads the setting `limits`: what agents and projects may use, as an object or as the name of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.json_documents import load_document
from anabranch.core.request.configured_limits import AgentLimits, ConfiguredLimits, Places, ProjectLimits
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.limits import Breaker, RateLimit
from anabranch.core.request.schema_errors import schema_problems

MAX_SHOWN = 10
"""Problems that one message names."""


def parse_limits(value: Any) -> ConfiguredLimits:
    """Parse an object, the text of one as JSON, or the path of a YAML or JSON file that has it.

    Raises:
        ValueError: it cannot be read, or it is invalid; with every problem and its place.
    """
    if isinstance(value, ConfiguredLimits):
        return value
    if isinstance(value, str):
        return _read(value) if value.lstrip().startswith("{") else _read_file(value)
    return _validated(value, "")


def _read_file(path: str) -> ConfiguredLimits:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"the file {path!r} cannot be read: {why}") from error
    return _read(text, f" in {path}")


def _read(text: str, where: str = "") -> ConfiguredLimits:
    try:
        document = load_document(text, "yaml")
    except RequestRefused as refused:
        raise ValueError(_said(refused.errors, where)) from None
    return _validated(document, where)


def _validated(document: Any, where: str) -> ConfiguredLimits:
    if not isinstance(document, Mapping):
        raise ValueError(f"must be an object with `agents` and `projects`, or the name of a file{where}")
    try:
        return ConfiguredLimits.model_validate(document)
    except ValidationError as error:
        problems = list(schema_problems(error, document, json_pointer, _models(document)))
        raise ValueError(_said(problems, where)) from None


def _said(problems: list[Problem] | tuple[Problem, ...], where: str) -> str:
    said = [
        f"{each.path or 'the document'}{where}: {each.message}{f' ({each.hint})' if each.hint else ''}"
        for each in problems[:MAX_SHOWN]
    ]
    more = len(problems) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _models(document: Mapping[str, Any]) -> Mapping[str, type[Document]]:
    """The models of the objects of a document, by the field that has each."""
    found: dict[str, type[Document]] = {"": ConfiguredLimits}
    for name, model in (("projects", ProjectLimits), ("agents", AgentLimits)):
        each = document.get(name)
        found |= dict.fromkeys(each, model) if isinstance(each, Mapping) else {}
    return found | {"rate_limit": RateLimit, "concurrency": Places, "breaker": Breaker}
