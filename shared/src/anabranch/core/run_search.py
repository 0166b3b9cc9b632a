"""The filter of a search for runs: a condition over documented fields. Pure.

A filter is a condition as of `core.conditions`, as text or data. Unlike a condition of a task it is about runs
that differ: a comparison with a field that a run lacks is false, also `not_equals`, and so is one by order with a
value of another type; only `not` turns a false comparison into a true one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.conditions.form import normalized
from anabranch.core.conditions.operators import ORDER, Data, Mismatch, holds
from anabranch.core.run_filter import RunFilter
from anabranch.core.search_terms import words
from anabranch.core.timestamps import parse_timestamp
from anabranch.core.wire.run_view import RunView

TEXT, NUMBER, TIME, BOOLEAN = "text", "number", "time", "boolean"
FIELDS: Final[Mapping[str, str]] = {
    "run_id": TEXT,
    "request_id": TEXT,
    "session_id": TEXT,
    "project": TEXT,
    "name": TEXT,
    "status": TEXT,
    "paused": BOOLEAN,
    "submitted_at": TIME,
    "started_at": TIME,
    "ended_at": TIME,
    "duration": NUMBER,
    "tasks": NUMBER,
    "failures": NUMBER,
    "usd": NUMBER,
    "tokens": NUMBER,
    "retry_of": TEXT,
    "parent": TEXT,
    "definition": TEXT,
    "schedule": TEXT,
}
"""The fields of a run that a filter may name, with their types. Beside these there are `text`, `labels.NAME` and
`search.NAME`."""
MAPS: Final = ("labels", "search")
WORDS: Final = "text"
"""The field that `contains` searches words in."""

_REFUSED = ("is_type", "ends_with")
_EXAMPLE = 'write for example: status == "failed" && labels.team == "a" && text contains "timeout"'


def parse_filter(given: object) -> Data:
    """The data form of a filter, whose times are in seconds.

    Raises:
        InvalidCondition: it is no condition, or names an unknown field, or one that it cannot compare like that.
    """
    return _checked(normalized(given))


def _checked(node: Data) -> Data:
    if isinstance(node, bool):
        return node
    for group in ("all", "any"):
        if group in node:
            return {group: [_checked(each) for each in node[group]]}
    if "not" in node:
        return {"not": _checked(node["not"])}
    field, operator = node["field"], node["operator"]
    if "value_field" in node or operator in _REFUSED:
        what = "`value_field`" if "value_field" in node else f"`{operator}`"
        raise InvalidCondition(f"a filter has no {what}", _EXAMPLE)
    kind = _kind(field)
    if field == WORDS and (operator != "contains" or not words([str(node.get("value"))])):
        raise InvalidCondition("`text` takes only `contains`, with a word", _EXAMPLE)
    if kind == TIME and "value" in node:
        return node | {"value": _times(node["value"])}
    return node


def _kind(field: str) -> str:
    if field == WORDS:
        return WORDS
    name, _, rest = field.partition(".")
    if name in MAPS and rest:
        return name
    if field in FIELDS:
        return FIELDS[field]
    near = difflib.get_close_matches(field, [*FIELDS, WORDS], n=1, cutoff=0.6)
    hint = (
        f"did you mean `{near[0]}`?" if near else f"one of {', '.join([*FIELDS, WORDS])}, labels.NAME, search.NAME"
    )
    raise InvalidCondition(f"runs have no field `{field[:60]}`", hint)


def _times(value: Any) -> Any:
    if isinstance(value, list):
        return [_times(each) for each in value]
    try:
        return parse_timestamp(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidCondition(str(error)) from error


def conjuncts(condition: Data) -> list[Data]:
    """The parts that each have to hold for the condition to hold."""
    if isinstance(condition, dict) and "all" in condition:
        return [part for each in condition["all"] for part in conjuncts(each)]
    return [condition]


def row_of(view: RunView) -> dict[str, Any]:
    """The fields of a run that a filter may name, of its view; those that it lacks are null."""
    costs, started, ended = view.costs or {}, view.started_at, view.ended_at
    return {
        "run_id": view.run_id,
        "request_id": view.request_id,
        "session_id": view.session_id,
        "project": view.project,
        "name": view.name,
        "status": view.status,
        "paused": view.paused,
        "submitted_at": view.submitted_at,
        "started_at": started,
        "ended_at": ended,
        "duration": None if started is None or ended is None else max(0.0, ended - started),
        "tasks": view.tasks_total,
        "failures": view.failure_count,
        "usd": costs.get("usd"),
        "tokens": costs.get("tokens"),
        "retry_of": view.retry_of,
        "parent": (view.parent or {}).get("run_id"),
        "definition": (view.definition or {}).get("name"),
        "schedule": (view.schedule or {}).get("id"),
        "labels": view.labels,
        "search": view.search or {},
        "words": searchable_words(view),
    }


MAX_ERRORS = 20
"""Failures of a run whose words are found."""
MAX_TASK_NAMES = 100
"""Tasks of a run whose names are found."""


def searchable_words(view: RunView) -> str:
    """The words of the names and errors of a run, with a space before each."""
    texts = [view.name or "", (view.definition or {}).get("name") or ""]
    for failure in view.failures[:MAX_ERRORS]:
        texts += [failure.get("error_type") or "", failure.get("message") or ""]
    for number, (group, name, _) in enumerate(view.tasks()):
        if number == MAX_TASK_NAMES:
            break
        texts += [group, name]
    return "".join([f" {word}" for word in words(texts)])


def matches(condition: Any, row: Mapping[str, Any]) -> bool:
    """True if a row, as of `row_of`, meets the condition."""
    if isinstance(condition, bool):
        return condition
    if "all" in condition:
        return all(matches(each, row) for each in condition["all"])
    if "any" in condition:
        return any(matches(each, row) for each in condition["any"])
    if "not" in condition:
        return not matches(condition["not"], row)
    return _holds(condition, row)


def _holds(condition: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    field, operator = condition["field"], condition["operator"]
    if field == WORDS:
        return all(f" {word}" in row["words"] for word in words([condition["value"]]))
    found = _value(row, field)
    if operator in ("exists", "not_exists"):
        is_there = found is not None
        return is_there if operator == "exists" else not is_there
    if found is None:
        return False
    value = condition.get("value")
    if is_time_of_search(field, operator, value):
        value = parse_timestamp(value)
    try:
        return holds(operator, found, value)
    except Mismatch:
        return False


def is_time_of_search(field: str, operator: str, value: Any) -> bool:
    """True if a search attribute is compared by order with a timestamp: times are numbers."""
    if not field.startswith("search.") or operator not in ORDER or not isinstance(value, str):
        return False
    try:
        parse_timestamp(value)
    except ValueError:
        return False
    return True


def _value(row: Mapping[str, Any], field: str) -> Any:
    name, _, rest = field.partition(".")
    return row[name].get(rest) if name in MAPS else row[field]


def is_found(wanted: RunFilter, view: RunView) -> bool:
    """True if the run of a view meets all conditions of a search without a history."""
    return wanted.matches(view) and (wanted.condition is None or matches(wanted.condition, row_of(view)))
