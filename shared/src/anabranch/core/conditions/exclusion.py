"""Proves that two conditions cannot both be true for the same values. Pure.

Sound, not complete: a pair that is not recognized may be exclusive all the same. Two conditions are exclusive if
each way to make the one true contradicts the other; two comparisons of one path contradict each other if

* they are opposites, or one requires the path to be absent;
* one allows only certain values, and the other is false for each of them;
* they require values of different types, numbers from ranges without a common number, or different beginnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from anabranch.core.conditions.operators import (
    FLIPPED,
    OPPOSITE,
    ORDER,
    TYPES,
    Data,
    Mismatch,
    equal,
    holds,
    json_type,
)

MAX_STEPS: Final = 20_000
"""Maximum comparisons of a proof; beyond them the conditions count as not exclusive."""
MAX_STEPS_IN_ALL: Final = 1_000_000
"""Maximum comparisons of all proofs of one `Exclusions`: some seconds, for a thousand conditions in pairs."""

_OPPOSITE: Final[Mapping[str, str]] = {
    one: other
    for pair in (
        *OPPOSITE.items(),
        ("starts_with", "!starts_with"),
        ("ends_with", "!ends_with"),
        ("is_type", "!is_type"),
    )
    for one, other in (pair, pair[::-1])
}
_CONTRADICTIONS: Final = frozenset(
    frozenset(pair)
    for pair in (
        *OPPOSITE.items(),
        ("greater_than", "less_than"),
        ("equals", "greater_than"),
        ("equals", "less_than"),
        ("starts_with", "!starts_with"),
        ("ends_with", "!ends_with"),
        ("is_type", "!is_type"),
    )
)
"""Operators that cannot both be true of one path and one operand."""
_ALL_TYPES: Final = frozenset(TYPES) - {"integer"}


class _TooLong(Exception):
    """The proof takes more comparisons than it may."""


def exclusive(a: Data, b: Data) -> bool:
    """True only if `a` and `b` provably cannot both evaluate to true for the same values.

    A condition that raises ConditionError is not true. Takes at most `MAX_STEPS` comparisons.
    """
    return Exclusions().exclusive(a, b)


class Exclusions:
    """Proofs for many pairs of conditions, which are prepared once and must not be changed meanwhile.

    All proofs together take at most `max_steps` comparisons; pairs beyond that count as not exclusive.
    """

    def __init__(self, max_steps: int = MAX_STEPS_IN_ALL) -> None:
        self._left = max_steps
        # The conditions are kept beside their prepared forms, so that no other object gets their ids.
        self._prepared: dict[int, tuple[Data, Data]] = {}

    def exclusive(self, a: Data, b: Data) -> bool:
        """As the function `exclusive`."""
        proof = _Proof(min(MAX_STEPS, self._left))
        try:
            return proof.contradict(self._prepare(a), self._prepare(b))
        except _TooLong:
            return False
        finally:
            self._left -= proof.steps

    def _prepare(self, condition: Data) -> Data:
        known = self._prepared.get(id(condition))
        if known is None:
            known = self._prepared[id(condition)] = (condition, _without_not(condition, True))
        return known[1]


def _without_not(node: Data, wanted: bool) -> Data:
    """An equivalent of `node`, or of its opposite if not `wanted`, with ``not`` moved into the operators."""
    if isinstance(node, bool):
        return node is wanted
    if "not" in node:
        return _without_not(node["not"], not wanted)
    for name, opposite in (("all", "any"), ("any", "all")):
        if name in node:
            return {name if wanted else opposite: [_without_not(part, wanted) for part in node[name]]}
    term = dict(node)
    if term["operator"] == "is_true":
        return term | {"operator": "equals", "value": wanted}
    if not wanted:
        term["operator"] = _OPPOSITE[term["operator"]]
    other = term.get("value_field")
    if other is not None and other < term["field"] and term["operator"] in FLIPPED:
        return {"field": other, "operator": FLIPPED[term["operator"]], "value_field": term["field"]}
    return term


class _Proof:
    """One proof; counts its steps."""

    def __init__(self, max_steps: int) -> None:
        self.steps = 0
        self._max_steps = max_steps
        self._done: dict[tuple[int, int], bool] = {}

    def _count(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > self._max_steps:
            raise _TooLong

    def contradict(self, a: Data, b: Data) -> bool:
        """True if `a` and `b`, which have no ``not``, cannot both be true."""
        if isinstance(a, dict) and isinstance(b, dict) and "field" in a and "field" in b:
            self._count()
            return self._terms_contradict(a, b)
        known = self._done.get((id(a), id(b)))
        if known is None:
            self._count()
            known = self._done[id(a), id(b)] = self._contradict(a, b)
        return known

    def _contradict(self, a: Data, b: Data) -> bool:
        if a is False or b is False:
            return True
        for one, other in ((a, b), (b, a)):
            if (parts := _parts(one, "any")) and all(self.contradict(part, other) for part in parts):
                return True
        return any(self.contradict(part, other) for one, other in ((a, b), (b, a)) for part in _parts(one, "all"))

    def _terms_contradict(self, a: Data, b: Data) -> bool:
        if a["operator"] == b["operator"] == "equals" and "value" in a and "value" in b:
            return a["field"] == b["field"] and not equal(a["value"], b["value"])  # fast path of `kind == "x"`
        for one, other in ((a, b), (b, a)):
            # Any comparison but `not_exists` is true only if there is a value at each of its paths.
            is_absent = one["operator"] == "not_exists" and other["operator"] != "not_exists"
            if is_absent and one["field"] in (other["field"], other.get("value_field")):
                return True
        if a["field"] != b["field"]:
            return False
        if frozenset((a["operator"], b["operator"])) in _CONTRADICTIONS and _same_operand(a, b):
            return True
        if "value_field" in a or "value_field" in b:
            return _types_of(a).isdisjoint(_types_of(b))
        return self._false_for_each(a, b) or self._false_for_each(b, a) or _ranges_contradict(a, b)

    def _false_for_each(self, one: Data, other: Data) -> bool:
        """True if `one` allows only certain values, and `other` is false for each of them."""
        allowed = _allowed_values(one)
        if allowed is None:
            return False
        operand = other.get("value")
        self._count(len(allowed) * (len(operand) if isinstance(operand, list) else 1))
        return not any(_may_be_true(other, value) for value in allowed)


def _parts(node: Data, group: str) -> list[Data]:
    return [] if isinstance(node, bool) else node.get(group, [])


def _same_operand(a: Data, b: Data) -> bool:
    if "value" in a and "value" in b:
        return equal(a["value"], b["value"])
    return "value" not in a and "value" not in b and a.get("value_field") == b.get("value_field")


def _allowed_values(term: Data) -> list[Any] | None:
    """The only values for which the term can be true; None if there are others."""
    if term["operator"] == "equals":
        return [term["value"]]
    if term["operator"] == "in" and isinstance(term["value"], list):
        return list(term["value"])
    return None


def _may_be_true(term: Data, value: Any) -> bool:
    operator: str = term["operator"]
    if operator in ("exists", "not_exists"):
        return operator == "exists"
    try:
        found = holds(operator.removeprefix("!"), value, term["value"])
    except Mismatch:
        return False
    return found is not operator.startswith("!")


def _types_of(term: Data) -> frozenset[str]:
    """The types that the value at the path can have where the term is true."""
    operator, operand = term["operator"], term.get("value")
    if operator.removeprefix("!") in ("starts_with", "ends_with"):
        return frozenset({"string"})
    if operator == "is_type":
        return frozenset({"number" if operand == "integer" else operand})
    if operator == "!is_type":
        return _ALL_TYPES - {operand}
    if "value" not in term:
        return _without_literal(operator)
    kind = json_type(operand)
    if operator == "equals" or operator in ORDER:
        return frozenset({kind})
    if operator in ("contains", "not_contains"):
        return frozenset({"array", "string", "object"} if kind == "string" else {"array"})
    if operator in ("in", "not_in") and kind != "array":
        return frozenset({"string"})
    return _ALL_TYPES


def _without_literal(operator: str) -> frozenset[str]:
    if operator in ORDER:
        return frozenset({"number", "string"})
    return frozenset({"array", "string", "object"}) if operator.endswith("contains") else _ALL_TYPES


def _ranges_contradict(a: Data, b: Data) -> bool:
    """True if no value has a type and is in a range that both terms allow."""
    if _types_of(a).isdisjoint(_types_of(b)):
        return True
    operators = {a["operator"], b["operator"]}
    if operators == {"starts_with"} or operators == {"ends_with"}:
        one, other = a["value"], b["value"]
        matches = str.startswith if "starts_with" in operators else str.endswith
        return not (matches(one, other) or matches(other, one))
    if a["operator"] not in ORDER or b["operator"] not in ORDER:
        return False
    # The types of both operands are the same here, so they can be compared.
    lower, upper = (a, b) if a["operator"].startswith("greater") else (b, a)
    if not (lower["operator"].startswith("greater") and upper["operator"].startswith("less")):
        return False
    is_closed = lower["operator"].endswith("equal") and upper["operator"].endswith("equal")
    return bool(lower["value"] > upper["value"] or (lower["value"] == upper["value"] and not is_closed))
