"""Merges several values written to one key of the context, by the policies of `context_policies`. Pure.

`reduce` merges the contributions of one run, in the order in which groups and tasks are declared, whatever the
order in which they were written. `Fold` merges the reduced values of a session's runs, which may arrive in any
order: each has a stamp, the time of submission and then the run id.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import orjson

from anabranch.core.errors import ContextConflict
from anabranch.core.outputs import merged

Policy = Literal["last_write", "first_write", "append", "set_union", "sum", "max", "error"]
DEFAULT: Policy = "last_write"

SINGLY = 1_000
"""Runs of a session whose contributions a fold keeps separately; those of older runs are merged into one value."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A value and its writer, for messages: `group/task`, or `run <id>`."""

    writer: str
    value: Any


def reduce(policy: Policy, key: str, contributions: Sequence[Contribution]) -> Any:
    """Merge the contributions (at least one, in declared order) to the value of `key`.

    last_write, first_write: the last or first value. append: one list; lists are concatenated, other values
        appended.
    set_union: the same without repetitions. sum, max: of numbers. error: the value, which all must agree on.

    Raises:
        ContextConflict: a value is not a number, or under `error` two values differ.
    """
    values = [each.value for each in contributions]
    match policy:
        case "last_write":
            return values[-1]
        case "first_write":
            return values[0]
        case "append":
            return merged(values)
        case "set_union":
            return list(distinct(merged(values)))
        case "error":
            _check_equal(key, contributions)
            return values[0]
    for each in contributions:
        _check_number(policy, key, each)
    return total(values) if policy == "sum" else _highest(values)


def number_problem(policy: str, value: Any) -> str | None:
    """Why a value cannot be written under a policy; None if it can."""
    if policy not in ("sum", "max") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None
    kinds = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return f"{policy} takes numbers, not {kinds.get(type(value), 'this')}"


def _check_number(policy: str, key: str, each: Contribution) -> None:
    if (problem := number_problem(policy, each.value)) is not None:
        raise ContextConflict(key, (each.writer,), problem)


def _check_equal(key: str, contributions: Sequence[Contribution]) -> None:
    first, *others = contributions
    known = canonical(first.value)
    for other in others:
        if canonical(other.value) != known:
            raise ContextConflict(
                key, (first.writer, other.writer), "their values differ, and the policy is error"
            )


def canonical(value: Any) -> bytes:
    """Canonical JSON: the same bytes for equal values, with the fields of objects in order. 1 and 1.0 differ."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def distinct(items: Iterable[Any]) -> Iterator[Any]:
    """The items without repetitions: of equal items the first."""
    seen: set[bytes] = set()
    for item in items:
        text = canonical(item)
        if text not in seen:
            seen.add(text)
            yield item


_LARGEST = 2**63
"""Larger integers become floats, because many JSON readers cannot represent them exactly."""


def total(numbers: Iterable[int | float]) -> int | float:
    """The exact sum, rounded once, so that it does not depend on the order. An integer if every number is one."""
    found = list(numbers)
    return _rounded(sum(map(Fraction, found)), is_whole=not any(isinstance(each, float) for each in found))


def _rounded(exact: Fraction | int, *, is_whole: bool) -> int | float:
    if is_whole and -_LARGEST <= exact < _LARGEST:
        return int(exact)
    try:
        return float(exact)
    except OverflowError:
        return sys.float_info.max if exact > 0 else -sys.float_info.max


def _highest(numbers: Iterable[int | float]) -> int | float:
    """The highest number; of 1 and 1.0 the integer, so that the result does not depend on the order."""
    return max(numbers, key=lambda number: (number, isinstance(number, int)))


# --- the runs of a session -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunsValue:
    """The contribution of one run. `position` rises with each contribution in the session; `submitted` is in
    seconds since the epoch; `replaces` is the run that this run retries."""

    position: int
    submitted: float
    run_id: str
    value: Any
    replaces: str | None = None

    @property
    def stamp(self) -> tuple[float, str]:
        return self.submitted, self.run_id


@dataclass(slots=True)
class Fold:
    """The contributions of a session's runs to one key under one policy.

    `base` is the merged value of the oldest runs (none: an empty list), up to and including position `through`.
    """

    policy: Policy
    runs: list[RunsValue] = field(default_factory=list)
    base: list[RunsValue] = field(default_factory=list)
    through: int = -1

    def add(self, new: RunsValue) -> None:
        """Add a contribution. Idempotent: a repetition changes nothing, and a contribution that was replaced by a
        retry of its run is dropped."""
        if new.position <= self.through or any(run.replaces == new.run_id for run in self.runs):
            return
        self.runs = [run for run in self.runs if run.run_id not in (new.run_id, new.replaces)]
        self.runs.append(new)
        self.runs.sort(key=lambda run: run.stamp)
        # By position, not by stamp: `through` then tells for each repeated contribution whether `base` has it.
        while len(self.runs) > SINGLY:
            oldest = min(self.runs, key=lambda run: run.position)
            self.runs.remove(oldest)
            self.base = self._together([*self.base, oldest])
            self.through = oldest.position

    def value(self) -> Any:
        """The merged value of all runs."""
        [found] = self._together([*self.base, *self.runs])
        return _rounded(Fraction(found.value[0]), is_whole=found.value[1]) if self.policy == "sum" else found.value

    def _together(self, runs: Sequence[RunsValue]) -> list[RunsValue]:
        """Merge contributions into one, with the stamp that decides about its order."""
        if self.policy == "sum":
            return [_summed(runs)]
        if self.policy in ("first_write", "error"):
            return [min(runs, key=lambda run: run.stamp)]
        if self.policy == "last_write":
            return [max(runs, key=lambda run: run.stamp)]
        first = runs[0]
        value = reduce(self.policy, "", [Contribution(run.run_id, run.value) for run in runs])
        return [RunsValue(first.position, first.submitted, first.run_id, value)]

    def to_document(self) -> dict[str, Any]:
        """The document to store; the reverse of `of_document`."""
        return {
            "policy": self.policy,
            "through": self.through,
            "base": [_row(run) for run in self.base],
            "runs": [_row(run) for run in self.runs],
        }

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Fold:
        return cls(
            document["policy"],
            [RunsValue(*row) for row in document["runs"]],
            [RunsValue(*row) for row in document["base"]],
            document["through"],
        )


def _row(run: RunsValue) -> list[Any]:
    return [run.position, run.submitted, run.run_id, run.value, run.replaces]


def _summed(runs: Sequence[RunsValue]) -> RunsValue:
    """An exact sum, as ["numerator/denominator", is an integer]; rounded only when it is read."""
    exact, is_whole = Fraction(0), True
    for run in runs:
        value, whole = run.value if isinstance(run.value, list) else (run.value, isinstance(run.value, int))
        exact += Fraction(value)
        is_whole = is_whole and whole
    first = runs[0]
    return RunsValue(first.position, first.submitted, first.run_id, [str(exact), is_whole])
