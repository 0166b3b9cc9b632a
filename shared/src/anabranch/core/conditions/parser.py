"""Parses the text form of conditions. Pure.

::

    or         := and ("||" and)*
    and        := unary ("&&" unary)*
    unary      := "!" unary | "(" or ")" | comparison
    comparison := "true" | "false" | path | operand operator operand
                | "exists" "(" path ")" | "not_exists" "(" path ")" | name "(" operand "," operand ")"
    operator   := "==" | "!=" | ">" | ">=" | "<" | "<=" | "not"? name
    name       := "in" | "not_in" | "contains" | "not_contains" | "starts_with" | "ends_with" | "is_type"
    operand    := path | literal

A path is a word (letters, digits, ``_ - / .``) or any text in backticks. A literal is JSON; a text may be in
single quotes too. The words above are operators only where an operator can stand, so keys may have their names.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from anabranch.core.conditions.checks import MAX_DEPTH, MAX_TEXT, InvalidCondition, field_problem, literal_problem
from anabranch.core.conditions.lexer import Token, tokens_of
from anabranch.core.conditions.operators import FLIPPED, TYPES, Data
from anabranch.core.conditions.rendering import NOT_PATHS, SYMBOLS, path_text

_COMPARISONS: Final = {symbol: name for name, symbol in SYMBOLS.items() if not symbol[0].isalpha()}
_NAMED: Final = frozenset({"in", "not_in", "contains", "not_contains", "starts_with", "ends_with", "is_type"})
_NEGATED: Final = {"in": "not_in", "contains": "not_contains"}
_EXISTENCE: Final = frozenset({"exists", "not_exists"})
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_MEANT: Final = {
    "and": "write && in place of `and`",
    "or": "write || in place of `or`",
    "not": "write ! in place of `not`",
    "startsWith": "write starts_with(path, text)",
    "endsWith": "write ends_with(path, text)",
}


def parse_text(text: str) -> Data:
    """Return the data of a text; its depth and its number of terms are not checked.

    Raises:
        InvalidCondition: with the column of the mistake and what was expected there.
    """
    if len(text) > MAX_TEXT:
        reason = f"the text has {len(text):,} characters, the maximum is {MAX_TEXT:,}"
        raise InvalidCondition(reason, "write long lists of values in the data form")
    return _Parser(tokens_of(text)).parse()


class _Operand:
    """One side of a comparison: a path, or a literal."""

    __slots__ = ("column", "path", "value")

    def __init__(self, column: int, path: str | None = None, value: Any = None) -> None:
        self.column = column
        self.path = path
        self.value = value


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def parse(self) -> Data:
        if len(self._tokens) == 1:
            raise InvalidCondition("the condition is empty", 'write one such as "score >= 0.8"', column=1)
        condition = self._either()
        if self._next.kind != "end":
            self._fail("`&&`, `||` or the end", _MEANT.get(str(self._next.value), ""))
        return condition

    # --- tokens -----------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _is(self, symbol: str) -> bool:
        return self._next.kind == "symbol" and self._next.value == symbol

    def _took(self, symbol: str) -> bool:
        found = self._is(symbol)
        self._at += found
        return found

    def _expect(self, symbol: str) -> None:
        if not self._took(symbol):
            self._fail(f"`{symbol}`")

    def _fail(self, expected: str, hint: str = "") -> NoReturn:
        raise InvalidCondition(f"expected {expected}, found {self._next}", hint, column=self._next.column)

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidCondition(f"nested deeper than {MAX_DEPTH} levels", "", column=self._next.column)

    # --- conditions -------------------------------------------------------------------------------

    def _either(self) -> Data:
        parts = [self._both()]
        while self._took("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else {"any": parts}

    def _both(self) -> Data:
        parts = [self._unary()]
        while self._took("&&"):
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else {"all": parts}

    def _unary(self) -> Data:
        if self._is("!") or self._is("("):
            self._depth += 1
            self._check_depth(self._depth)
            condition = self._negation() if self._took("!") else self._group()
            self._depth -= 1
            return condition
        return self._comparison()

    def _negation(self) -> Data:
        is_nested = self._is("!") or self._is("(")
        condition: Data = {"not": self._unary() if is_nested else self._comparison(alone=True)}
        if self._operator_here():
            # Some languages read !a == 1 as (!a) == 1, others as !(a == 1).
            self._fail("`&&`, `||` or the end", "write !(a == 1), or a != 1")
        return condition

    def _group(self) -> Data:
        self._expect("(")
        condition = self._either()
        self._expect(")")
        return condition

    def _comparison(self, *, alone: bool = False) -> Data:
        """A comparison; with `alone` only a function, a path or a constant, which ends before an operator."""
        if self._next.kind == "word":
            after = self._tokens[self._at + 1]
            if after.kind == "symbol" and after.value == "(":
                return self._function()
        left = self._operand()
        token = self._next
        operator = None if alone else self._take_operator()
        if operator is not None:
            return _compared(left, operator, self._operand(), token)
        if left.path is not None:
            return {"field": left.path, "operator": "is_true"}
        if isinstance(left.value, bool):
            return left.value
        return self._fail("an operator", "a literal alone is not a condition")

    def _function(self) -> Data:
        token = self._take()
        name = token.value
        if name not in _EXISTENCE | _NAMED:
            known = ", ".join(sorted(_EXISTENCE | _NAMED))
            raise InvalidCondition(f"unknown function `{name[:60]}`", _MEANT.get(name, known), column=token.column)
        self._expect("(")
        operand = self._operand()
        if name in _NAMED:
            self._expect(",")
            condition = _compared(operand, name, self._operand(), token)
        elif operand.path is None:
            hint = f"write {name}(tests.passed), without quotes"
            raise InvalidCondition(f"`{name}` takes a path, not a literal", hint, column=operand.column)
        else:
            condition = {"field": operand.path, "operator": name}
        self._expect(")")
        return condition

    def _operator_here(self) -> bool:
        token = self._next
        if token.kind == "symbol":
            return token.value in _COMPARISONS
        return token.kind == "word" and (token.value in _NAMED or token.value == "not")

    def _take_operator(self) -> str | None:
        if not self._operator_here():
            return None
        token = self._take()
        if token.kind == "symbol":
            return _COMPARISONS[token.value]
        if token.value != "not":
            return str(token.value)
        negated = _NEGATED.get(str(self._next.value)) if self._next.kind == "word" else None
        if negated is None:
            self._fail("`in` or `contains` after `not`")
        self._take()
        return negated

    # --- operands ---------------------------------------------------------------------------------

    def _operand(self) -> _Operand:
        token = self._next
        if token.kind == "path":
            self._take()
            return _Operand(token.column, _path(token))
        if token.kind == "word" and token.value not in _CONSTANTS:
            if token.value in NOT_PATHS:
                self._fail("a path or a literal", _MEANT.get(token.value, ""))
            self._take()
            if self._is("[") and self._next.column == token.end:
                self._fail("an operator", f"an item of a list is a part of the path: {token.value[:60]}.0")
            return _Operand(token.column, _path(token))
        return _Operand(token.column, value=self._literal("a path or a literal"))

    def _literal(self, expected: str, depth: int = 1) -> Any:
        token = self._next
        if token.kind in ("string", "number"):
            return self._take().value
        if token.kind == "word" and token.value in _CONSTANTS:
            return _CONSTANTS[self._take().value]
        if token.kind in ("word", "path"):
            self._fail(expected, f'only literals are allowed here, texts in quotes: "{str(token.value)[:60]}"')
        if not (self._is("[") or self._is("{")):
            self._fail(expected)
        self._check_depth(depth)
        return self._list(depth + 1) if self._took("[") else self._object(depth + 1)

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._took("]"):
            if items:
                self._expect(",")
            items.append(self._literal("a literal" if items else "a literal or `]`", depth))
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        self._expect("{")
        fields: dict[str, Any] = {}
        while not self._took("}"):
            if fields:
                self._expect(",")
            key = self._next
            if key.kind != "string":
                self._fail("a key in quotes or `}`", "a path is written without braces: score >= 0.8")
            if key.value in fields:
                raise InvalidCondition(f"the object has the key {key.value[:60]!r} twice", "", column=key.column)
            self._take()
            self._expect(":")
            fields[key.value] = self._literal("a literal", depth)
        return fields


def _path(token: Token) -> str:
    path = str(token.value)
    if problem := field_problem(path):
        raise InvalidCondition(f"the path {problem}", "", column=token.column)
    return path


def _compared(left: _Operand, operator: str, right: _Operand, at: Token) -> Data:
    if operator == "is_type" and (right.path in TYPES or (right.path is None and right.value is None)):
        right = _Operand(right.column, value=right.path or "null")  # the name of a type needs no quotes
    if left.path is None and right.path is None:
        hint = "one side has to be a path, which is written without quotes"
        raise InvalidCondition(f"{at} compares two literals", hint, column=left.column)
    if left.path is None:
        if operator not in FLIPPED:
            hint = f"write {path_text(right.path or '')} {operator} ..."
            raise InvalidCondition(f"the left side of `{operator}` has to be a path", hint, column=left.column)
        left, right, operator = right, left, FLIPPED[operator]
    if right.path is not None:
        if operator == "is_type":
            hint = f'the name of a type is a text: "{right.path[:60]}"'
            raise InvalidCondition("`is_type` compares with a literal", hint, column=right.column)
        return {"field": left.path, "operator": operator, "value_field": right.path}
    if problem := literal_problem(operator, right.value):
        raise InvalidCondition(*problem, column=right.column)
    return {"field": left.path, "operator": operator, "value": right.value}
