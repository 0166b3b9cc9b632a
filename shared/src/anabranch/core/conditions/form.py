"""Reads a condition, as text or as data, into its data form, within limits. A mistake has its path. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from anabranch.core.conditions.checks import (
    MAX_DEPTH,
    MAX_TERMS,
    MAX_VALUES,
    InvalidCondition,
    Path,
    check_literal,
    field_problem,
    literal_problem,
)
from anabranch.core.conditions.operators import OPERATORS, TYPES, WITHOUT_VALUE, Data, json_type
from anabranch.core.conditions.parser import parse_text
from anabranch.core.conditions.rendering import shown

_TERM: Final = ("field", "operator", "value", "value_field")
_GROUPS: Final = ("all", "any", "not")
_EXAMPLE: Final = 'write "score >= 0.8" or {field: score, operator: greater_or_equal, value: 0.8}'
_SHOWN: Final = 60
_SYMBOLS: Final = {
    "==": "equals",
    "=": "equals",
    "!=": "not_equals",
    ">": "greater_than",
    ">=": "greater_or_equal",
    "<": "less_than",
    "<=": "less_or_equal",
    "not in": "not_in",
}
"""The data form of operators that are symbols in the text form; only for hints."""


def normalized(condition: object) -> Data:
    """Return the data form of a condition that is given as text, as data, or as data with texts in it.

    Data that is in this form already is returned equal. Literals are shared with `condition`.

    Raises:
        InvalidCondition: it is neither, or over a limit.
    """
    return _Reader().read(condition, (), 1)


def parse_condition(text: str) -> Data:
    """Return the data form of a condition in its text form.

    Raises:
        InvalidCondition: with the column of the mistake and what was expected there.
    """
    return _Reader().read(text, (), 1)


class _Reader:
    """Reads one condition; counts its terms and values over all of its parts."""

    def __init__(self) -> None:
        self._terms = 0
        self._values = 0

    def read(self, node: object, path: Path, depth: int) -> Data:
        if depth > MAX_DEPTH:
            raise InvalidCondition(f"the condition is nested deeper than {MAX_DEPTH} levels", "", path)
        if isinstance(node, str):
            return self._read_text(node, path, depth)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise InvalidCondition(f"a condition is a text or an object, this is {_a(node)}", _EXAMPLE, path)
        for name in _GROUPS:
            if name in node:
                return self._read_group(name, node, path, depth)
        return self._read_term(node, path)

    def _read_text(self, text: str, path: Path, depth: int) -> Data:
        try:
            return self.read(parse_text(text), (), depth)
        except InvalidCondition as error:
            # A text is one value of the document: no path leads into it.
            raise InvalidCondition(error.reason, error.hint, path, error.column) from error

    def _read_group(self, name: str, node: dict[Any, Any], path: Path, depth: int) -> Data:
        for key in node:
            if key != name:
                hint = "one object has one of `all`, `any`, `not` and `field`"
                raise InvalidCondition(f"the condition has both `{name}` and `{str(key)[:_SHOWN]}`", hint, path)
        inner = node[name]
        if name == "not":
            return {name: self.read(inner, (*path, name), depth + 1)}
        if not isinstance(inner, list):
            raise InvalidCondition(f"`{name}` is a list of conditions, this is {_a(inner)}", "", (*path, name))
        if not inner:
            raise InvalidCondition(f"`{name}` is empty", "give it at least one condition", (*path, name))
        return {name: [self.read(each, (*path, name, place), depth + 1) for place, each in enumerate(inner)]}

    def _read_term(self, node: dict[Any, Any], path: Path) -> Data:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise InvalidCondition(f"the condition has more than {MAX_TERMS:,} comparisons", "", path)
        for key in node:
            if key not in _TERM:
                word = str(key)[:_SHOWN]
                raise InvalidCondition(f"unknown field `{word}`", _nearest(word, (*_TERM, *_GROUPS)), path)
        operator = _operator(node, path)
        return {"field": _field(node, "field", path), "operator": operator} | self._operand(node, operator, path)

    def _operand(self, node: dict[Any, Any], operator: str, path: Path) -> dict[str, Any]:
        given = [name for name in ("value", "value_field") if name in node]
        if operator in WITHOUT_VALUE:
            if given:
                raise InvalidCondition(f"`{operator}` takes no `{given[0]}`", "leave it out", (*path, given[0]))
            return {}
        if len(given) != 1:
            problem = "both `value` and `value_field` are given" if given else "`value` is missing"
            raise InvalidCondition(f"{problem}: `{operator}` compares with one value", "", path)
        where = (*path, given[0])
        if given == ["value_field"]:
            if operator == "is_type":
                hint = f"give it as `value`: {', '.join(TYPES)}"
                raise InvalidCondition("`is_type` takes no `value_field`, but the name of a type", hint, where)
            return {"value_field": _field(node, "value_field", path)}
        value = node["value"]
        self._values += check_literal(value, where, MAX_VALUES - self._values)
        if problem_and_hint := literal_problem(operator, value):
            raise InvalidCondition(*problem_and_hint, where)
        return {"value": value}


def _operator(node: dict[Any, Any], path: Path) -> str:
    if "operator" not in node:
        missing = "`operator`" if "field" in node else "one of `all`, `any`, `not` and `field`"
        raise InvalidCondition(f"{missing} is missing", _EXAMPLE, path)
    operator = node["operator"]
    if isinstance(operator, str) and operator in OPERATORS:
        return operator
    word = operator[:_SHOWN] if isinstance(operator, str) else shown(operator)
    meant = _SYMBOLS.get(word)
    hint = f"write `{meant}`" if meant else _nearest(word, OPERATORS) or f"one of {', '.join(OPERATORS)}"
    raise InvalidCondition(f"unknown operator `{word}`", hint, (*path, "operator"))


def _field(node: dict[Any, Any], name: str, path: Path) -> str:
    if name not in node:
        raise InvalidCondition(f"`{name}` is missing", "the path of the value to compare", path)
    field = node[name]
    if not isinstance(field, str):
        raise InvalidCondition(f"`{name}` is a path, this is {_a(field)}", "", (*path, name))
    if problem := field_problem(field):
        hint = "write a path as in a placeholder, without braces: tests.passed"
        raise InvalidCondition(f"`{name}` {problem}", hint, (*path, name))
    return field


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def _a(value: object) -> str:
    kind = json_type(value)
    return kind if kind == "null" else f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"
