"""The terms under which the history finds a run, and the words of a text. Pure.

A term is a kind, a name and a value: `label`, `field` and `search` for an equal value, `labelled` for
a label of any value, `id` for the beginning of an id, `word` for the beginning of a word of its names and errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_WORDS = 200
"""Maximum words of one run that are found."""
MAX_WORD = 64
MAX_VALUE = 200
"""Maximum characters of a value in a term; a longer one is found by its beginning, and compared as a whole."""

IDS = ("run_id", "request_id", "session_id")
FIELDS = ("name", "retry_of", "parent", "definition", "schedule")
"""Fields of a row that have terms, besides its ids. Status and project have indexes of their own."""

_WORD = re.compile(r"[^\W_]+")
_SEPARATOR = "\x1f"


def words(texts: Iterable[str]) -> list[str]:
    """The distinct words of some texts in order: letters and digits, without case, at most MAX_WORDS."""
    found: dict[str, None] = {}
    for text in texts:
        for word in _WORD.findall(text.casefold()):
            found[word[:MAX_WORD]] = None
            if len(found) == MAX_WORDS:
                return list(found)
    return list(found)


def term(kind: str, name: str, value: str) -> str:
    """The term of a value. No part of it has a null character, which PostgreSQL does not store."""
    return f"{kind}{_SEPARATOR}{name}{_SEPARATOR}{value[:MAX_VALUE]}".replace("\x00", "")


def search_value(value: Any) -> str:
    """A search attribute as a part of a term. Values of different types are different: true is not "true"."""
    if isinstance(value, bool):
        return f"b{str(value).lower()}"
    return f"n{float(value)!r}" if isinstance(value, int | float) else f"s{value}"


def terms_of(row: Mapping[str, Any]) -> set[str]:
    """The terms of a row of the history's table of runs."""
    found = {term("id", "", str(row[name]).casefold()) for name in IDS if row[name]}
    found |= {term("field", name, row[name]) for name in FIELDS if row[name]}
    found |= {term("label", name, value) for name, value in row["labels"].items()}
    found |= {term("labelled", "", name) for name in row["labels"]}
    found |= {term("search", name, search_value(value)) for name, value in row["search"].items()}
    return found | {term("word", "", word) for word in row["words"].split()}
