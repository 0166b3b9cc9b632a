"""Evaluates conditions over the values of a run, and explains the result. Pure.

All functions take a condition in its data form, as `normalized` returns it, and a scope of plain JSON values:
references to stored values are resolved by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

from anabranch.core.conditions.operators import ORDER, WITHOUT_VALUE, Data, Mismatch, holds, json_type
from anabranch.core.conditions.rendering import SHOWN, clipped, literal_text, path_text, shown, to_text
from anabranch.core.errors import ConditionError
from anabranch.core.templates import MISSING, Path

MAX_EXPLANATION: Final = 200
"""Maximum characters of an explanation."""


def evaluate(condition: Data, scope: Mapping[str, Any]) -> bool:
    """True if the condition holds for the values in `scope`.

    The parts of ``all`` and ``any`` are evaluated from left to right until the result is certain, so a later part
    may depend on an earlier one: ``exists(a) && a > 1``.

    Raises:
        ConditionError: a path without a value, or a value that the operator cannot compare.
    """
    if isinstance(condition, bool):
        return condition
    if "all" in condition:
        return all(evaluate(part, scope) for part in condition["all"])
    if "any" in condition:
        return any(evaluate(part, scope) for part in condition["any"])
    if "not" in condition:
        return not evaluate(condition["not"], scope)
    return _holds(condition, scope)


def outcome(condition: Data, known: Mapping[str, Any], unknown: Callable[[str], bool]) -> bool | None:
    """What `evaluate` will return for values of which only some are known; None if that is not certain yet.

    ``unknown(path)`` is True for a path whose value, or absence, is not known yet; all others are looked up in
    `known`. With nothing unknown it is `evaluate`. The parts that are not known are taken to be comparable: a
    result is certain unless one of them raises ConditionError first.

    Raises:
        ConditionError: the condition cannot be evaluated, whatever the unknown values are.
    """
    if isinstance(condition, bool):
        return condition
    if "all" in condition:
        return _outcome_of_group(condition["all"], known, unknown, decisive=False)
    if "any" in condition:
        return _outcome_of_group(condition["any"], known, unknown, decisive=True)
    if "not" in condition:
        inner = outcome(condition["not"], known, unknown)
        return None if inner is None else not inner
    return None if any(unknown(path) for path in _paths(condition)) else _holds(condition, known)


def _outcome_of_group(
    parts: list[Data], known: Mapping[str, Any], unknown: Callable[[str], bool], *, decisive: bool
) -> bool | None:
    certain = True
    for part in parts:
        try:
            found = outcome(part, known, unknown)
        except ConditionError:
            if certain:
                raise
            return None  # an earlier part may decide first, so that this one is not evaluated
        if found is decisive:
            return decisive
        certain = certain and found is not None
    return (not decisive) if certain else None


def fields_of(condition: Data) -> tuple[str, ...]:
    """The paths that a condition reads, in order of appearance, without repetition."""
    return tuple(dict.fromkeys(path for term in _terms(condition) for path in _paths(term)))


def why_false(condition: Data, scope: Mapping[str, Any]) -> str:
    """Why `evaluate` returned False: the deciding comparisons with their values, in at most `MAX_EXPLANATION`
    characters: ``score >= 0.8 is false: score is 0.5``."""
    return clipped("; ".join(_reasons(condition, scope, False)), MAX_EXPLANATION)


def _reasons(condition: Data, scope: Mapping[str, Any], result: bool) -> Iterator[str]:
    """Explain why `condition` has this `result`, evaluating no more than `evaluate` did."""
    every, first = ("all", "any") if result else ("any", "all")
    if isinstance(condition, bool):
        yield f"the condition is {literal_text(condition)}"
    elif "not" in condition:
        yield from _reasons(condition["not"], scope, not result)
    elif every in condition:  # each part has the result
        for part in condition[every]:
            yield from _reasons(part, scope, result)
    elif first in condition:  # the first part with the result decided
        decided = next(part for part in condition[first] if evaluate(part, scope) is result)
        yield from _reasons(decided, scope, result)
    else:
        yield _reason(condition, scope, result)


def _reason(term: Data, scope: Mapping[str, Any], result: bool) -> str:
    values = [(path, Path(path).find(scope)) for path in _paths(term)]
    found = ", ".join(
        f"{clipped(path, SHOWN)} is {'absent' if value is MISSING else shown(value)}" for path, value in values
    )
    if term["operator"] == "is_true":
        return found
    return f"{_short(term)} is {literal_text(result)}: {found}"


def _short(term: Data) -> str:
    """The text of a term, with its literal cut before it is written."""
    if "value" not in term or json_type(term["value"]) in ("number", "boolean", "null"):
        return clipped(to_text(term), 2 * SHOWN)
    empty = to_text(term | {"value": ""}).removesuffix('""')
    return f"{clipped(empty, SHOWN)}{shown(term['value'])}"


def _terms(condition: Data) -> Iterator[Data]:
    if isinstance(condition, bool):
        return
    if "not" in condition:
        yield from _terms(condition["not"])
    elif "field" in condition:
        yield condition
    else:
        for part in condition["all"] if "all" in condition else condition["any"]:
            yield from _terms(part)


def _paths(term: Data) -> tuple[str, ...]:
    return (term["field"], term["value_field"]) if "value_field" in term else (term["field"],)


def _holds(term: Data, scope: Mapping[str, Any]) -> bool:
    operator = term["operator"]
    left = Path(term["field"]).find(scope)
    if operator in ("exists", "not_exists"):
        return (left is MISSING) is (operator == "not_exists")
    if left is MISSING:
        _refuse_missing(term, term["field"])
    if "value_field" in term:
        right = Path(term["value_field"]).find(scope)
        if right is MISSING:
            _refuse_missing(term, term["value_field"])
    else:
        right = term.get("value")
    try:
        return holds(operator, left, right)
    except Mismatch as error:
        raise _mismatch(term, left, right, error.needs) from error


def _refuse_missing(term: Data, path: str) -> NoReturn:
    short, name = _short(term), clipped(path_text(path), SHOWN)
    fix = f"test it first: exists({name}) && {short}"
    if path == term.get("value_field"):
        fix += f'; if a text is meant, put it in quotes: "{clipped(path, SHOWN)}"'
    reason = f"{short} cannot be evaluated: there is no value at {name}"
    raise ConditionError(term["field"], term["operator"], reason, fix)


def _mismatch(term: Data, left: Any, right: Any, needs: str) -> ConditionError:
    found = f"{clipped(term['field'], SHOWN)} is {_typed(left)}"
    if term["operator"] not in WITHOUT_VALUE:
        other = clipped(term["value_field"], SHOWN) if "value_field" in term else "the value"
        found += f" and {other} is {_typed(right)}"
    short, operator = _short(term), term["operator"]
    reason = f"{short} cannot be evaluated: `{operator}` takes {needs}, but {found}"
    return ConditionError(term["field"], operator, reason, _fix(term, left, right))


def _fix(term: Data, left: Any, right: Any) -> str:
    operator, path = term["operator"], term["field"]
    if operator == "is_true":
        return f"a path alone has to be a boolean; compare it: {path_text(path)} == {shown(left)}"
    if operator in ORDER:
        wanted = json_type(right) if isinstance(right, str) else "number"
    elif operator in ("in", "not_in") and "value_field" in term:
        wanted, path = "array", term["value_field"]
    else:
        wanted = "array" if operator in ("contains", "not_contains") else "string"
    name = clipped(path_text(path), SHOWN)
    return f'compare values of matching types, or test the type first: {name} is_type "{wanted}" && {_short(term)}'


def _typed(value: Any) -> str:
    kind = json_type(value)
    if kind == "null":
        return kind
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind} ({shown(value)})"
