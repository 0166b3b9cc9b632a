"""Translates the filter of a search for runs to SQL, with the results of `core.run_search.matches`.

Each comparison is true or false and never null, so that `not` inverts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql.history_tables import RUNS
from anabranch.core.conditions.operators import Data
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import BOOLEAN, FIELDS, MAPS, NUMBER, TEXT, TIME, WORDS, is_time_of_search
from anabranch.core.search_terms import words
from anabranch.core.timestamps import parse_timestamp

Clause = sa.ColumnElement[bool]
_FALSE, _TRUE = sa.literal(0) == 1, sa.literal(1) == 1
_PYTHON: Mapping[str, tuple[type, ...]] = {
    TEXT: (str,),
    NUMBER: (int, float),
    TIME: (int, float),
    BOOLEAN: (bool,),
}
_ORDER: Mapping[str, Callable[[Any, Any], Clause]] = {
    "greater_than": lambda left, right: left > right,
    "greater_or_equal": lambda left, right: left >= right,
    "less_than": lambda left, right: left < right,
    "less_or_equal": lambda left, right: left <= right,
}


class Translator:
    """Translates for one kind of database."""

    def __init__(self, is_postgresql: bool) -> None:
        self._is_postgresql = is_postgresql

    def wanted(self, wanted: RunFilter) -> Clause:
        """The clause of all conditions of a filter."""
        clauses = [each for each in self._fixed(wanted) if each is not None]
        if wanted.condition is not None:
            clauses.append(self.condition(wanted.condition))
        return sa.and_(_TRUE, *clauses)

    def _fixed(self, wanted: RunFilter) -> list[Clause | None]:
        columns = RUNS.c
        project = sa.func.coalesce(columns.project, DEFAULT_PROJECT)
        submitted = sa.func.coalesce(columns.submitted_at, 0.0)
        seen = wanted.visible_projects
        return [
            None if seen is None else columns.project.in_(sorted(seen)),
            *(
                None if value is None else column == value
                for column, value in (
                    (columns.status, wanted.status),
                    (columns.name, wanted.name),
                    (columns.session_id, wanted.session_id),
                    (project, wanted.project),
                    (columns.retry_of, wanted.retry_of),
                )
            ),
            None if wanted.since is None else submitted >= wanted.since,
            None if wanted.until is None else submitted < wanted.until,
            *(self._label(each) for each in wanted.labels),
            None if wanted.text is None else _has_text(wanted.text),
        ]

    def _label(self, label: str) -> Clause:
        """`label` is `key:value` or `key`; keys may have colons of their own."""
        found = [self._of_map("labels", label, "exists", None)]
        for place in (number for number, letter in enumerate(label) if letter == ":"):
            found.append(self._of_map("labels", label[:place], "equals", label[place + 1 :]))
        return sa.or_(*found)

    def condition(self, node: Data) -> Clause:
        """The clause of a condition."""
        if isinstance(node, bool):
            return _TRUE if node else _FALSE
        if "all" in node:
            return sa.and_(_TRUE, *map(self.condition, node["all"]))
        if "any" in node:
            return sa.or_(_FALSE, *map(self.condition, node["any"]))
        if "not" in node:
            return sa.not_(self.condition(node["not"]))
        field, operator, value = node["field"], node["operator"], node.get("value")
        if field == WORDS:
            return _has_words(value)
        name, _, rest = field.partition(".")
        if name in MAPS and rest:
            if is_time_of_search(field, operator, value):
                value = parse_timestamp(value)
            return self._of_map(name, rest, operator, value)
        return _compared(RUNS.c[field], FIELDS[field], operator, value)

    def _of_map(self, name: str, key: str, operator: str, value: Any) -> Clause:
        """A comparison of a label or of a search attribute, whose values have types of their own."""
        kinds = self._typed(name, key)
        if operator in ("exists", "not_exists"):
            known = sa.or_(*(column.is_not(None) for column in kinds.values()))
            return known if operator == "exists" else sa.not_(known)
        if operator in ("equals", "not_equals", "in", "not_in"):
            values = value if isinstance(value, list) else [value]
            same = [
                _never_null(column == (_as_floats(each) if kind == NUMBER else each))
                for each in values
                for kind, column in kinds.items()
                if type(each) in _PYTHON[kind]
            ]
            equal = sa.or_(_FALSE, *same)
            if operator in ("equals", "in"):
                return equal
            return sa.and_(sa.not_(equal), self._of_map(name, key, "exists", None))
        return sa.or_(_FALSE, *(_compared(column, kind, operator, value) for kind, column in kinds.items()))

    def _typed(self, name: str, key: str) -> dict[str, Any]:
        """The value under a key, once for each type that it may have; null if it has another type."""
        if self._is_postgresql:
            # The name of a key is a parameter, of a type that the operator's two forms need.
            place = sa.literal(key, sa.Text)
            kind = sa.func.jsonb_typeof(RUNS.c[name].op("->")(place))
            text: sa.ColumnElement[Any] = RUNS.c[name].op("->>")(place)
            return {
                TEXT: sa.case((kind == "string", text)),
                NUMBER: sa.case((kind == "number", sa.cast(text, sa.Double))),
                BOOLEAN: sa.case((kind == "boolean", sa.cast(text, sa.Boolean))),
            }
        each = sa.func.json_each(RUNS.c[name]).table_valued("key", "value", "type")

        def found(column: Any, *kinds: str) -> Any:
            wanted = sa.and_(each.c.key == key, each.c.type.in_(kinds))
            return sa.select(column).where(wanted).correlate(RUNS).scalar_subquery()

        return {
            TEXT: sa.type_coerce(found(each.c.value, "text"), sa.Text),
            NUMBER: sa.type_coerce(found(each.c.value, "integer", "real"), sa.Double),
            BOOLEAN: sa.type_coerce(found(each.c.value, "true", "false"), sa.Boolean),
        }


def _compared(column: Any, kind: str, operator: str, value: Any) -> Clause:
    """A comparison of a column, or an expression, whose values have one type."""
    if kind in (NUMBER, TIME):
        # Drivers would send a list of whole numbers as integers, also to a column of others.
        column, value = sa.type_coerce(column, sa.Double), _as_floats(value)
    if operator in ("exists", "not_exists"):
        known: Clause = column.is_not(None)
        return known if operator == "exists" else sa.not_(known)
    if operator in ("in", "not_in"):
        return _in(column, kind, value, operator)
    if operator == "is_true":
        return _never_null(column) if kind == BOOLEAN else _FALSE
    is_same_kind = type(value) in _PYTHON[kind]
    if operator == "not_equals":
        other = _never_null(column != value) if is_same_kind else _TRUE
        return sa.and_(column.is_not(None), other)
    if not is_same_kind or (kind == BOOLEAN and operator != "equals"):
        return _FALSE
    if operator == "equals":
        return _never_null(column == value)
    if operator in _ORDER:
        return _never_null(_ORDER[operator](column, value))
    return _of_text(column, operator, value) if kind == TEXT else _FALSE


def _as_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    return float(value) if type(value) is int else value


def _in(column: Any, kind: str, value: Any, operator: str) -> Clause:
    """`in` and `not_in`, of a list or a text."""
    if isinstance(value, str) and kind == TEXT:
        found = sa.func.replace(sa.literal(value), column, "") != value
        inside = _never_null(sa.or_(column == "", found))
    elif isinstance(value, list):
        inside = _never_null(column.in_([each for each in value if type(each) in _PYTHON[kind]]))
    else:
        return _FALSE
    return inside if operator == "in" else sa.and_(column.is_not(None), sa.not_(inside))


def _of_text(column: Any, operator: str, value: str) -> Clause:
    if operator == "starts_with":
        return _never_null(sa.func.substr(column, 1, len(value)) == value)
    found = _TRUE if value == "" else sa.func.replace(column, value, "") != column
    if operator == "contains":
        return sa.and_(column.is_not(None), _never_null(found))
    return sa.and_(column.is_not(None), sa.not_(_never_null(found)))  # not_contains


def _never_null(clause: Any) -> Clause:
    return sa.func.coalesce(clause, _FALSE)


def _has_words(text: str) -> Clause:
    return sa.and_(
        _TRUE, *(sa.func.replace(RUNS.c.words, f" {word}", "") != RUNS.c.words for word in words([text]))
    )


def _has_text(text: str) -> Clause:
    """Words of names and errors that begin with those of the text, or the beginning of an id."""
    folded = text.casefold()
    ids = [RUNS.c.run_id, sa.func.coalesce(RUNS.c.request_id, ""), RUNS.c.session_id]
    found = [sa.func.substr(sa.func.lower(each), 1, len(folded)) == folded for each in ids]
    return sa.or_(_has_words(text), *found) if words([text]) else sa.or_(*found)
