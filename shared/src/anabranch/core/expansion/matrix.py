"""The combinations of a matrix, with the semantics of a GitHub Actions matrix.

The combinations are the Cartesian product of the axes, the first slowest; then

- **exclude** drops every combination that an entry matches. An entry need not name every axis, but only axes.
- **include** entries are split into the keys that are axes (what must match) and the others (what is added).
  An entry that matches at least one combination that was kept adds its other keys to each of them; so it
  never overwrites an axis, while a later entry may overwrite what an earlier one added, and an entry that
  names no axis extends all. An entry that matches none becomes a combination of its own behind the product,
  which later entries do not see.

An entry matches leaf by leaf, as GitHub's ``==`` does: objects match when the leaves that the entry writes
do (those it leaves out may be anything), lists by position, a missing leaf is null; strings compare without
case, and values of different types as numbers (null, false and "" are 0, true is 1, "3.10" is 3.1, text is
no number and equals none). Keys compare without case too, where the exact one is not there.

The product is never walked. Each axis value is compared once with each entry; the combinations that are kept are
counted backwards over the axes (dynamic programming over sets of exclude entries), and the i-th one is found by
index arithmetic. Pure.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from typing import Any, Final, TypeAlias

from anabranch.core.errors import ExpansionError

Entry: TypeAlias = Mapping[str, Any]
"""One object of ``include`` or ``exclude``."""

Fault: TypeAlias = tuple[tuple[str | int, ...], str]
"""A path within the matrix, and the error there."""

_Leaf: TypeAlias = tuple[tuple[str | int, ...], Any]

STEPS: Final = 5_000_000
"""Maximum steps of counting the combinations; only exclude entries that overlap over many axes need more."""
_EMPTY_INCLUDE: Final = "an include entry of the matrix is empty: give it at least one key"
_LARGEST: Final = 1 << 62
_DECIMAL = re.compile(r"[+-]?(\d++(\.\d*+)?|\.\d++)([eE][+-]?\d++)?", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}")
_OCTAL = re.compile(r"0o[0-7]{1,10}")


class Matrix:
    """All combinations of a matrix, in order, by index.

    Raises ExpansionError for an exclude entry that is empty or names no axis, for an empty include entry, and
    for a matrix too large to count.
    """

    def __init__(
        self,
        axes: Mapping[str, Sequence[Any]],
        *,
        include: Sequence[Entry] = (),
        exclude: Sequence[Entry] = (),
    ) -> None:
        self._names = tuple(axes)
        self._values = tuple(axes.values())
        spelling = _spelling(axes)
        entries = [_split(entry, axes, spelling) for entry in include]
        kept = _Kept(self._values, _Filters(axes, [_excluding(e, axes, spelling) for e in exclude]))
        filters = _Filters(axes, [match for match, _ in entries])
        matched = kept.matched(filters) if entries else 0
        self._kept = kept
        self._filters = filters
        self._extras = _spelled_alike([extra for _, extra in entries])
        self._appended = [
            _in_order_of(entry, {**match, **extra})
            for at, (entry, (match, extra)) in enumerate(zip(include, entries, strict=True))
            if not matched >> at & 1
        ]
        self.count = kept.count + len(self._appended)

    def at(self, index: int) -> dict[str, Any]:
        """Return combination `index`, from 0. Raises IndexError if there is none."""
        if not 0 <= index < self.count:
            raise IndexError(f"combination {index} of {self.count}")
        if index >= self._kept.count:
            return dict(self._appended[index - self._kept.count])
        choice = self._kept.choice(index)
        combination = {
            name: values[at] for name, values, at in zip(self._names, self._values, choice, strict=True)
        }
        if self._extras:
            self._extend(combination, self._filters.matching(choice))
        return combination

    def _extend(self, combination: dict[str, Any], matching: int) -> None:
        while matching:
            lowest = matching & -matching
            combination.update(self._extras[lowest.bit_length() - 1])
            matching ^= lowest

    def between(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield combinations `start` to `stop`, exclusive; the cost is that of the range."""
        return (self.at(index) for index in range(start, min(stop, self.count)))


def check_entries(
    axes: Collection[str], *, include: Sequence[Entry] = (), exclude: Sequence[Entry] = ()
) -> list[Fault]:
    """Return the errors of the entries that do not depend on the values of the axes."""
    spelling = _spelling(axes)
    faults: list[Fault] = [(("include", at), _EMPTY_INCLUDE) for at, entry in enumerate(include) if not entry]
    for at, entry in enumerate(exclude):
        faults += [(("exclude", at, *key), message) for key, message in _exclude_faults(entry, axes, spelling)]
    return faults


def _spelling(axes: Collection[str]) -> dict[str, str]:
    """Map the case-folded name of each axis to the axis; of two that differ only in case, to the first."""
    return {_fold(name): name for name in reversed(list(axes))}


def _exclude_faults(
    entry: Entry, axes: Collection[str], spelling: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    if not entry:
        yield (), "an exclude entry of the matrix is empty, so it would drop every combination: name an axis"
    for key in entry:
        if key not in axes and _fold(key) not in spelling:
            known = ", ".join(axes) or "none"
            yield (key,), f"exclude key {key!r} is not an axis of the matrix; the axes are: {known}"


def _split(entry: Entry, axes: Mapping[str, Any], spelling: Mapping[str, str]) -> tuple[Entry, Entry]:
    """Split an include entry into the keys that must match and those that are added."""
    if not entry:
        raise ExpansionError(_EMPTY_INCLUDE)
    match, extra = {}, {}
    for key, value in entry.items():
        axis = key if key in axes else spelling.get(_fold(key))
        if axis is None:
            extra[key] = value
        else:
            match[axis] = value
    return match, extra


def _excluding(entry: Entry, axes: Mapping[str, Any], spelling: Mapping[str, str]) -> Entry:
    for _, message in _exclude_faults(entry, axes, spelling):
        raise ExpansionError(message)
    return _split(entry, axes, spelling)[0]


def _spelled_alike(extras: Sequence[Entry]) -> list[Entry]:
    """Use the first spelling for keys that differ only in case, so that a later one overwrites an earlier one."""
    first: dict[str, str] = {}
    return [{first.setdefault(_fold(key), key): value for key, value in extra.items()} for extra in extras]


class _Filters:
    """Bit masks of the entries that each value of each axis satisfies: bit f is entry f.

    `masks` has a list for each axis with a mask for each value; None for an axis that no entry names. `every` has
    all bits set. A combination matches the entries whose bits are set in the masks of all its values.
    """

    __slots__ = ("every", "masks")

    def __init__(self, axes: Mapping[str, Sequence[Any]], entries: Sequence[Entry]) -> None:
        self.every = (1 << len(entries)) - 1
        self.masks = [_masks(name, values, entries, self.every) for name, values in axes.items()]

    def matching(self, choice: Sequence[int]) -> int:
        """Return the bits of the entries that match the combination of these value indexes."""
        found = self.every
        for masks, at in zip(self.masks, choice, strict=True):
            if masks is not None:
                found &= masks[at]
        return found


def _masks(name: str, values: Sequence[Any], entries: Sequence[Entry], every: int) -> list[int] | None:
    named = [(1 << at, list(_leaves(entry[name]))) for at, entry in enumerate(entries) if name in entry]
    if not named:
        return None
    # Entries that do not name the axis match each of its values.
    others = every ^ sum(bit for bit, _ in named)
    plain = _Literals((bit, leaves[0][1]) for bit, leaves in named if _is_plain(leaves))
    deep = [(bit, leaves) for bit, leaves in named if not _is_plain(leaves)]
    if len(deep) * len(values) > STEPS:
        raise ExpansionError(f"too many entries look into the objects or lists of axis {name!r}: use fewer")
    return [others | plain.equal_to(value) | _bits_matching(value, deep) for value in values]


def _is_plain(leaves: Sequence[_Leaf]) -> bool:
    return len(leaves) == 1 and not leaves[0][0]


def _bits_matching(value: Any, entries: Sequence[tuple[int, Sequence[_Leaf]]]) -> int:
    return sum(bit for bit, leaves in entries if _matches(value, leaves))


class _Literals:
    """`loosely_equal` with many literals by one lookup, so that n values and m literals cost n + m, not n * m."""

    __slots__ = ("_numbers", "_other_numbers", "_texts")

    def __init__(self, literals: Iterable[tuple[int, Any]]) -> None:
        self._texts: dict[str, int] = {}
        self._numbers: dict[float, int] = {}
        self._other_numbers: dict[float, int] = {}
        for bit, literal in literals:
            _add_bit(self._numbers, _number(literal), bit)
            if isinstance(literal, str):
                _add_bit(self._texts, _fold(literal), bit)
            else:
                _add_bit(self._other_numbers, _number(literal), bit)

    def equal_to(self, value: Any) -> int:
        """Return the bits of the literals that equal `value`; none for NaN, which equals nothing."""
        number = _number(value)
        # Two texts are compared as texts, any other pair as numbers.
        if isinstance(value, str):
            return self._texts.get(_fold(value), 0) | self._other_numbers.get(number, 0)
        return self._numbers.get(number, 0)


def _add_bit(bits: dict[Any, int], key: Any, bit: int) -> None:
    if not (isinstance(key, float) and math.isnan(key)):
        bits[key] = bits.get(key, 0) | bit


def _in_order_of(entry: Entry, combination: dict[str, Any]) -> dict[str, Any]:
    """A combination of its own made by an entry, with its keys in the order of the entry."""
    first = {key: combination[key] for key in entry if key in combination}
    return {**first, **combination}


class _Kept:
    """Counts the combinations that no exclude entry matches, and finds the i-th one.

    A state is the set of exclude entries (bits) that all values chosen so far satisfy. In state 0 no entry can
    match any more, so the remaining axes are a plain product. `_tables[axis][state]` are the running counts of
    kept combinations over the values of the axis; a binary search in them finds the value of the i-th combination.
    """

    __slots__ = ("_excludes", "_free", "_sizes", "_tables", "count")

    def __init__(self, values: Sequence[Sequence[Any]], excludes: _Filters) -> None:
        self._sizes = [len(axis) for axis in values]
        self._excludes = excludes
        self._free = _suffix_products(self._sizes)
        if self._free[0] > _LARGEST:
            raise ExpansionError("the matrix has too many combinations to count: use fewer or shorter axes")
        self._tables: list[dict[int, list[int]]] = self._count_backwards()
        # The product of no axes would be one empty combination, but a matrix without axes has only its includes.
        self.count = 0 if not self._sizes else self._left(0, excludes.every)

    def _reachable(self) -> list[set[int]]:
        """Return the reachable states of each axis, without state 0."""
        levels = [{self._excludes.every} - {0}]
        steps = 0
        for masks, size in zip(self._excludes.masks, self._sizes, strict=True):
            distinct = set(masks) if masks is not None else {self._excludes.every}
            steps += len(levels[-1]) * size
            if steps > STEPS:
                raise ExpansionError("the exclude entries of the matrix are too many to count: use fewer")
            levels.append({state & mask for state in levels[-1] for mask in distinct} - {0})
        return levels

    def _count_backwards(self) -> list[dict[int, list[int]]]:
        levels = self._reachable()
        self._tables = [{} for _ in self._sizes]
        for axis in range(len(self._sizes) - 1, -1, -1):
            masks = self._excludes.masks[axis] or [self._excludes.every] * self._sizes[axis]
            for state in levels[axis]:
                left = (self._left(axis + 1, state & mask) for mask in masks)
                self._tables[axis][state] = list(accumulate(left))
        return self._tables

    def _left(self, axis: int, state: int) -> int:
        """Return the number of kept combinations of the axes from `axis` on in `state`."""
        if not state:
            return self._free[axis]
        if axis == len(self._sizes):  # the values of all axes satisfy an exclude entry
            return 0
        running = self._tables[axis][state]
        return running[-1] if running else 0

    def choice(self, index: int) -> list[int]:
        """Return the value index on each axis of the kept combination `index`."""
        state = self._excludes.every
        chosen = []
        for axis, masks in enumerate(self._excludes.masks):
            if not state:
                at, index = divmod(index, self._free[axis + 1])
            else:
                running = self._tables[axis][state]
                at = bisect_right(running, index)
                index -= running[at - 1] if at else 0
                state &= masks[at] if masks is not None else state
            chosen.append(at)
        return chosen

    def matched(self, filters: _Filters) -> int:
        """Return the entries (bits) of `filters` that match at least one kept combination."""
        if not self.count:
            return 0
        # An axis without masks has all bits at each value. The repeat of `size` items ends the endless one.
        pairs = [
            set(zip(mine or repeat(self._excludes.every), theirs or repeat(filters.every, size), strict=False))
            for mine, theirs, size in zip(self._excludes.masks, filters.masks, self._sizes, strict=True)
        ]
        bits = [1 << entry for entry in range(filters.every.bit_length())]
        return sum(bit for bit in bits if self._any_matches(bit, pairs))

    def _any_matches(self, entry: int, pairs: Sequence[set[tuple[int, int]]]) -> bool:
        """Search for a kept combination through the states that the values allowed by `entry` lead to."""
        states = {self._excludes.every}
        for axis in pairs:
            masks = {excluded for excluded, allowed in axis if allowed & entry}
            states = {state & mask for state in states for mask in masks}
        return 0 in states


def _suffix_products(sizes: Sequence[int]) -> list[int]:
    """Return the products of the sizes from each position on, ending with 1."""
    return list(accumulate(reversed(sizes), int.__mul__, initial=1))[::-1]


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[_Leaf]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(value, list | tuple):
        for at, part in enumerate(value):
            yield from _leaves(part, (*path, at))
    else:
        yield path, value


def _matches(value: Any, leaves: Sequence[_Leaf]) -> bool:
    return all(loosely_equal(_at_path(value, path), literal) for path, literal in leaves)


def _at_path(value: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        if isinstance(value, Mapping):
            value = _field(value, str(key))
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def _field(value: Mapping[str, Any], key: str) -> Any:
    if key in value:
        return value[key]
    folded = _fold(key)
    return next((part for name, part in value.items() if _fold(name) == folded), None)


def loosely_equal(left: Any, right: Any) -> bool:
    """Compare as ``==`` in GitHub's expressions: text without case, mixed types as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right or _fold(left) == _fold(right)
    return _number(left) == _number(right)


def _fold(text: str) -> str:
    """Return `text` in upper case, character by character; ß stays, because its upper case has two letters."""
    capitals = text.upper()
    if len(capitals) == len(text):
        return capitals
    return "".join(upper if len(upper := char.upper()) == 1 else char for char in text)


def _number(value: Any) -> float:
    """Return the number for comparing `value` with another type; NaN, which equals nothing, if there is none."""
    if value is None:
        return 0.0
    if isinstance(value, str):
        return _text_as_number(value.strip())
    if not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _text_as_number(text: str) -> float:
    if not text:
        return 0.0
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _HEX.fullmatch(text):
        whole = int(text, 16)  # GitHub reads it as a signed integer of 32 bits
        return float(whole - (1 << 32) if whole >> 31 else whole)
    if _OCTAL.fullmatch(text):
        return float(int(text, 8))
    return {"Infinity": math.inf, "-Infinity": -math.inf}.get(text, math.nan)
