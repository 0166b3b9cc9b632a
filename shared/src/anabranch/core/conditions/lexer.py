"""Splits the text form of a condition into tokens with their columns. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.conditions.rendering import NUMERIC

Kind = Literal["string", "path", "number", "word", "symbol", "end"]

_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.\-/])"
_TOKEN: Final = re.compile(
    rf"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<path>`(?:[^`\\]|\\.)*`)
    |(?P<number>{_NUMBER})
    |(?P<word>\w[\w.\-/]*)
    |(?P<symbol>[=!<>]=|&&|\|\||[<>!()\[\]{{}},:])""",
    re.VERBOSE | re.DOTALL,
)
_SPACE: Final = re.compile(r"\s*")
_DIGITS_OF_AN_INTEGER: Final = 25
"""More digits than an integer of 64 bits has, and few enough for `int`."""
_HINTS: Final = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    '"': 'the text has no end: close it with "',
    "'": "the text has no end: close it with '",
    "`": "the path has no end: close it with `",
    "$": "write the path without ${...}, and one with other characters in backticks",
}


@dataclass(frozen=True, slots=True)
class Token:
    """`value` is a literal's value, a path or the characters themselves; `column` counts from 1."""

    kind: Kind
    value: Any
    column: int
    end: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        return (
            f"`{self.value}`" if self.kind in ("word", "symbol") else f"the {self.kind} {str(self.value)[:60]!r}"
        )


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text, with one of kind ``end`` after the last.

    Raises:
        InvalidCondition: a character begins no token, or a text has no end.
    """
    tokens: list[Token] = []
    at = _skip_space(text, 0)
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            hint = _HINTS.get(text[at], "put texts in quotes, and paths with other characters in backticks")
            raise InvalidCondition(f"unexpected {text[at]!a}", hint, column=at + 1)
        tokens.append(_token(found))
        at = _skip_space(text, found.end())
    return [*tokens, Token("end", "", at + 1, at + 1)]


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _token(found: re.Match[str]) -> Token:
    column, end = found.start() + 1, found.end() + 1
    written = found[0]
    match found.lastgroup:
        case "string":
            return Token("string", _unescaped(written[1:-1], column), column, end)
        case "path":
            return Token("path", _unescaped(written[1:-1], column), column, end)
        case "number":
            return Token("number", _number(written, column), column, end)
        case "word":
            return Token("word", _checked_word(written, column), column, end)
        case _:
            return Token("symbol", written, column, end)


def _number(written: str, column: int) -> int | float:
    if not any(mark in written for mark in ".eE"):
        if len(written) > _DIGITS_OF_AN_INTEGER:
            raise InvalidCondition("an integer of more than 64 bits", "compare it as a text", column=column)
        return int(written)
    return float(written)


def _checked_word(word: str, column: int) -> str:
    if NUMERIC.fullmatch(word):
        raise InvalidCondition(f"{word[:60]} is not a JSON number", "write 0.5, 7, 1e3", column=column)
    if ".." in word or word.endswith("."):
        raise InvalidCondition(f"the path {word[:60]!r} has an empty part", "", column=column)
    return word


def _unescaped(inner: str, column: int) -> str:
    if "\\" not in inner:
        return inner
    # Each escape is replaced by JSON's spelling of it, so that pairs of surrogates become one character.
    try:
        return str(json.loads('"' + _JSON_SPECIAL.sub(_json_spelling, inner) + '"', strict=False))
    except json.JSONDecodeError as error:
        hint = r"an escape is one of \" \' \` \\ \/ \b \f \n \r \t \u0000"
        raise InvalidCondition(f"a text has an unknown escape ({error.msg})", hint, column=column) from error


_JSON_SPECIAL: Final = re.compile(r"\\.|\"", re.DOTALL)


def _json_spelling(found: re.Match[str]) -> str:
    return {'"': '\\"', "\\'": "'", "\\`": "`"}.get(found[0], found[0])
