"""Parses the expressions of GitHub Actions: `${{ needs.build.outputs.version == '2' && always() }}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias


class ExpressionError(Exception):
    """The text is no expression, or uses a part of the language that is not supported."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: text, a number, a boolean or null."""

    value: Any


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of a context, such as `matrix.os`."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Call:
    """A function, with its name in lower case."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`!operand`."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    """Two operands: `&&`, `||`, or a comparison."""

    operator: str
    left: Expression
    right: Expression


Expression: TypeAlias = Constant | Reference | Call | Not | Operation

STATUS_FUNCTIONS = frozenset({"always", "cancelled", "failure", "success"})
"""An expression without one of these also requires that everything before has succeeded."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))"
    r"|(?P<text>'(?:[^']|'')*')"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<operator>&&|\|\||==|!=|<=|>=|[<>!().,\[\]*]))"
)
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))
"""Operators by precedence, the weakest first."""
_WORDS = {"true": True, "false": False, "null": None}
_MAX_LEVELS = 32
_MAX_TOKENS = 500


def parse(text: str) -> Expression:
    """Parse one expression, without `${{` and `}}`.

    Raises:
        ExpressionError: it cannot be parsed.
    """
    return _Parser(text).parse()


def split_text(text: str) -> list[str | Expression]:
    """Split a text into literal parts and the expressions in `${{ }}`.

    Raises:
        ExpressionError: an expression cannot be parsed, or has no end.
    """
    parts: list[str | Expression] = []
    rest = text
    while (start := rest.find("${{")) >= 0:
        end = _end_of_expression(rest, start + 3)
        if start:
            parts.append(rest[:start])
        parts.append(parse(rest[start + 3 : end]))
        rest = rest[end + 2 :]
    return [*parts, rest] if rest else parts


def has_operators(text: str) -> bool:
    """True if an expression of a text is more than a literal or one value; False if it cannot be parsed."""
    try:
        return not all(isinstance(part, (str, Constant, Reference)) for part in split_text(text))
    except ExpressionError:
        return False


def only_reference(text: str) -> Reference | None:
    """The reference that is the whole text; None if it is anything else."""
    try:
        parts = split_text(text.strip())
    except ExpressionError:
        return None
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Reference) else None


def condition_of(value: Any) -> Expression:
    """The expression of an `if`, in which `${{ }}` may be left out.

    Raises:
        ExpressionError: it cannot be parsed.
    """
    if not isinstance(value, str):
        return Constant(value)
    text = value.strip()
    if text.startswith("${{") and (end := _end_of_expression(text, 3)) == len(text) - 2:
        return parse(text[3:end])
    if "${{" in text:
        raise ExpressionError("an `if` with text around `${{ }}` is always true: write one expression")
    return parse(text)


def references(expression: Expression) -> Iterator[Reference]:
    """All references in an expression."""
    match expression:
        case Reference():
            yield expression
        case Call():
            for each in expression.arguments:
                yield from references(each)
        case Not():
            yield from references(expression.operand)
        case Operation():
            yield from references(expression.left)
            yield from references(expression.right)


def has_status_function(expression: Expression) -> bool:
    """True if an expression says itself after which outcomes it is true."""
    match expression:
        case Call():
            return expression.name in STATUS_FUNCTIONS or any(map(has_status_function, expression.arguments))
        case Not():
            return has_status_function(expression.operand)
        case Operation():
            return has_status_function(expression.left) or has_status_function(expression.right)
    return False


def _end_of_expression(text: str, start: int) -> int:
    """The position of the `}}` that ends the expression; one in a quoted text does not."""
    quoted = False
    for at in range(start, len(text)):
        if text[at] == "'":
            quoted = not quoted
        elif not quoted and text.startswith("}}", at):
            return at
    raise ExpressionError("`${{` has no `}}`")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(islice(_tokens(text), _MAX_TOKENS + 1))
        if len(self._tokens) > _MAX_TOKENS:
            raise ExpressionError(f"has over {_MAX_TOKENS} parts")
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        found = self._binary(0)
        if self._at < len(self._tokens):
            raise ExpressionError(f"{self._tokens[self._at][1]!r} is not expected in {self._text.strip()!r}")
        return found

    def _binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while self._peek() in _LEVELS[level]:
            left = Operation(self._take(), left, self._binary(level + 1))
        return left

    def _unary(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_LEVELS:
            raise ExpressionError(f"is nested over {_MAX_LEVELS} levels deep")
        try:
            if self._peek() == "!":
                self._take()
                return Not(self._unary())
            return self._primary()
        finally:
            self._depth -= 1

    def _primary(self) -> Expression:
        kind, token = self._next()
        if kind == "number":
            return Constant(_number(token))
        if kind == "text":
            return Constant(token[1:-1].replace("''", "'"))
        if kind == "word":
            return self._named(token)
        if token == "(":
            inner = self._binary(0)
            self._expect(")")
            return inner
        raise ExpressionError(f"{token!r} is not expected in {self._text.strip()!r}")

    def _named(self, word: str) -> Expression:
        if self._peek() == "(":
            self._take()
            return Call(word.lower(), self._arguments())
        if word.lower() in _WORDS and self._peek() not in (".", "["):
            return Constant(_WORDS[word.lower()])
        path = [word]
        while self._peek() in (".", "["):
            path.append(self._field())
        return Reference(tuple(path))

    def _field(self) -> str:
        if self._take() == ".":
            kind, token = self._next()
            if token == "*":
                raise ExpressionError("the filter `.*` of a list is not supported")
            if kind != "word":
                raise ExpressionError(f"after the dot in {self._text.strip()!r} a name is expected")
            return token
        kind, token = self._next()
        self._expect("]")
        if kind not in ("text", "number"):
            raise ExpressionError(f"the index in {self._text.strip()!r} must be a text or a number")
        return token[1:-1].replace("''", "'") if kind == "text" else token

    def _arguments(self) -> tuple[Expression, ...]:
        found: list[Expression] = []
        while self._peek() != ")":
            if found:
                self._expect(",")
            found.append(self._binary(0))
        self._take()
        return tuple(found)

    def _peek(self) -> str:
        if self._at >= len(self._tokens):
            return ""
        kind, token = self._tokens[self._at]
        return token if kind == "operator" else ""

    def _take(self) -> str:
        return self._next()[1]

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise ExpressionError(f"{self._text.strip()!r} ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if self._peek() != token:
            raise ExpressionError(f"{token!r} is missing in {self._text.strip()!r}")
        self._at += 1


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at:].strip()[:20]!r} is not expected in {text.strip()!r}")
        at = match.end()
        assert match.lastgroup is not None
        yield match.lastgroup, match[match.lastgroup]


def _number(token: str) -> int | float:
    if "0x" in token:
        return int(token, 16)
    return float(token) if any(each in token for each in ".eE") else int(token)
