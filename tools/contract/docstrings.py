"""Reads the docstrings of attributes from the source, because Python does not keep them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

_OURS = "anabranch"


@cache
def attribute_notes(owner: type[Any]) -> dict[str, str]:
    """Docstrings in Markdown by attribute name, for a class of this project and its bases."""
    notes: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        # `RootModel[int]` is a class of the module that uses it, and has no source.
        if base.__module__.split(".")[0] == _OURS and "[" not in base.__name__:
            notes.update(_own_notes(base))
    return notes


def _own_notes(owner: type[Any]) -> Iterator[tuple[str, str]]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(definition, ast.ClassDef)
    for statement, following in pairwise(definition.body):
        name = _assigned(statement)
        if name and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield name, markdown(str(following.value.value))


def _assigned(statement: ast.stmt) -> str | None:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def markdown(docstring: str) -> str:
    """Convert a docstring to Markdown: single backticks, and one line per paragraph."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).replace("``", "`")
