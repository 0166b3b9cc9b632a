"""The transform rules of a ``custom`` expansion, which combine arrays. Pure.

The rules always apply in this order, whatever order they are written in:

1. **sequence** makes arrays of numbers, from ``start`` to ``end`` *inclusive*; it counts down if the step is
   negative, or if there is no step and the end is below the start.
2. **filter** keeps the items that meet every condition on their array, or on a field of its items.
3. **distinct** keeps the first of equal items (of one array, of an array by a field, or with ``true`` of
   every array).
4. **chunk** makes lists of n neighbours of the items of an array; a bare number chunks every array that makes
   members.
5. **combine** and **zip** make the members: each array of `combine` is an axis of the product, the first
   slowest; the arrays of `zip` are one axis, element by element, at the place in `combine` where one of them
   is named, else behind it. A sequence, and an array with a chunk size of its own, that neither of them names
   is a further axis.

Without `combine` and `zip` the mapped arrays are zipped, as in an ``array`` expansion, except arrays with a filter
if other arrays make members. Every array that makes no members is passed whole to each member, as a list under its
name. Zipped arrays of equal length are filtered row by row, so that the items of a row stay together.

A rule names an array by its loop variable or by its context path; an array that is not mapped has only the path.
Rules are data: nothing here evaluates code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.filters import Condition, parse_condition
from anabranch.core.expansion.lazy_products import Arithmetic, Chunks, Product, Zipped
from anabranch.core.names import leading_keys
from anabranch.core.templates import MISSING, canonical_json, walk

if TYPE_CHECKING:
    from anabranch.core.request.models import TransformRules

Arrays = Mapping[str, Sequence[Any]]
Fault: TypeAlias = tuple[tuple[str | int, ...], str]
"""A path within the rules, and the error there."""


def check_rules(
    rules: TransformRules, arrays: Iterable[str] = (), *, paths: Mapping[str, str] | None = None
) -> list[Fault]:
    """Return the errors of `rules` beyond their schema that do not depend on the arrays.

    `arrays` are the names of the arrays, `paths` their context paths.
    """
    return [*_repeated_names(rules), *_unreadable_conditions(rules), *_wrong_names(rules, arrays, paths or {})]


def _repeated_names(rules: TransformRules) -> Iterator[Fault]:
    for rule, names in (("combine", rules.combine), ("zip", rules.zip)):
        seen: set[str] = set()
        for at, name in enumerate(names or ()):
            if name in seen:
                yield (rule, at), f"array {name!r} is named twice"
            seen.add(name)
        if names is not None and not names:
            yield (rule,), "names no array"


def _unreadable_conditions(rules: TransformRules) -> Iterator[Fault]:
    for key, written in (rules.filter or {}).items():
        try:
            parse_condition(written)
        except ValueError as error:
            yield ("filter", key), str(error)


def _wrong_names(rules: TransformRules, arrays: Iterable[str], paths: Mapping[str, str]) -> Iterator[Fault]:
    mapped = set(arrays)
    sequences = rules.sequence or {}
    yield from ((("sequence", name), _two_arrays(name)) for name in sequences if name in mapped)
    names = _all_names([*mapped, *sequences], paths)
    for place, name in _whole_arrays(rules):
        found = match_name(name, names)
        if found is not None and found[1]:
            yield place, _not_whole(str(place[0]), name, found[0])


def _whole_arrays(rules: TransformRules) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each path at which a rule names a whole array, with that name."""
    for rule, names in (("combine", rules.combine), ("zip", rules.zip)):
        yield from (((rule, at), name) for at, name in enumerate(names or ()))
    if isinstance(rules.chunk, Mapping):
        yield from ((("chunk", name), name) for name in rules.chunk)


def _all_names(arrays: Iterable[str], paths: Mapping[str, str]) -> dict[str, str]:
    """Map every name that a rule may use to its array."""
    return {**{path: array for array, path in paths.items()}, **{name: name for name in arrays}}


def _two_arrays(name: str) -> str:
    return f"{name!r} is a sequence and a mapped array: give one of them another name"


def _not_whole(rule: str, name: str, array: str) -> str:
    return f"{rule} takes whole arrays: {name!r} is a field of {array!r}"


def named_arrays(rules: TransformRules) -> list[str]:
    """Return the names of arrays in the rules, in order; for a field (``array.field``) the whole path."""
    distinct = [rules.distinct] if isinstance(rules.distinct, str) else rules.distinct or ()
    names = [*(rules.combine or ()), *(rules.zip or ()), *(rules.filter or ())]
    names += rules.chunk if isinstance(rules.chunk, Mapping) else ()
    names += distinct if distinct is not True else ()
    return list(dict.fromkeys(names))


def match_name(path: str, names: Mapping[str, str]) -> tuple[str, tuple[str, ...]] | None:
    """Split `path` into an array and a path within its items, by the longest of `names` (name -> array)."""
    for lead in leading_keys(path):
        if (array := names.get(lead)) is not None:
            return array, tuple(path[len(lead) + 1 :].split(".")) if len(lead) < len(path) else ()
    return None


def apply_rules(
    rules: TransformRules, arrays: Arrays, *, paths: Mapping[str, str] | None = None, limit: int = 1_000_000
) -> Product:
    """Return the combinations that `rules` make from `arrays` (by loop variable).

    `paths` are the context paths of the arrays, as further names for them. Raises ExpansionError for an
    unknown array, for unequal lengths in a zip, and where there is nothing to make members of.
    """
    return _Applied(_resolved(rules, arrays, paths or {}), limit).product()


@dataclass(frozen=True, slots=True)
class _Resolved:
    """The rules with every name resolved to an array, and the sequences made."""

    arrays: Arrays
    sequences: tuple[str, ...]
    combine: tuple[str, ...]
    zip: tuple[str, ...]
    filters: Mapping[str, Sequence[tuple[tuple[str, ...], Condition]]]
    distinct: Mapping[str, Sequence[tuple[str, ...]]] | bool
    chunk: Mapping[str, int]
    chunked_by_name: tuple[str, ...]


def _resolved(rules: TransformRules, arrays: Arrays, paths: Mapping[str, str]) -> _Resolved:
    sequences = _sequences(rules, arrays)
    every = {**arrays, **sequences}
    names = _all_names(every, paths)
    return _Resolved(
        arrays=every,
        sequences=tuple(sequences),
        combine=tuple(_array("combine", name, names) for name in rules.combine or ()),
        zip=tuple(_array("zip", name, names) for name in rules.zip or ()),
        filters=_filters(rules, names),
        distinct=_distinct(rules, names),
        chunk=(chunk := _chunk_sizes(rules, names, every)),
        chunked_by_name=tuple(chunk) if isinstance(rules.chunk, Mapping) else (),
    )


def _sequences(rules: TransformRules, arrays: Arrays) -> dict[str, Arithmetic]:
    made = {}
    for name, numbers in (rules.sequence or {}).items():
        if name in arrays:
            raise ExpansionError(_two_arrays(name))
        made[name] = Arithmetic(numbers.start, numbers.end, numbers.stride)
    return made


def _field(rule: str, path: str, names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    found = match_name(path, names)
    if found is None:
        known = ", ".join(sorted(set(names.values()))) or "none"
        raise ExpansionError(f"{rule} names {path!r}, which is not an array of the expansion; it has: {known}")
    return found


def _array(rule: str, name: str, names: Mapping[str, str]) -> str:
    array, rest = _field(rule, name, names)
    if rest:
        raise ExpansionError(_not_whole(rule, name, array))
    return array


def _filters(rules: TransformRules, names: Mapping[str, str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path, written in (rules.filter or {}).items():
        array, field = _field("filter", path, names)
        try:
            condition = parse_condition(written)
        except ValueError as error:
            raise ExpansionError(f"filter {path!r}: {error}") from error
        found.setdefault(array, []).append((field, condition))
    return found


def _distinct(rules: TransformRules, names: Mapping[str, str]) -> dict[str, list[tuple[str, ...]]] | bool:
    if rules.distinct is None or isinstance(rules.distinct, bool):
        return bool(rules.distinct)
    found: dict[str, list[tuple[str, ...]]] = {}
    for path in [rules.distinct] if isinstance(rules.distinct, str) else rules.distinct:
        array, field = _field("distinct", path, names)
        found.setdefault(array, []).append(field)
    return found


def _chunk_sizes(rules: TransformRules, names: Mapping[str, str], arrays: Arrays) -> dict[str, int]:
    if isinstance(rules.chunk, Mapping):
        return {_array("chunk", name, names): size for name, size in rules.chunk.items()}
    return dict.fromkeys(arrays, rules.chunk) if rules.chunk else {}


class _Applied:
    """One application of resolved rules: the arrays that make members, and those that are passed on whole."""

    def __init__(self, rules: _Resolved, limit: int) -> None:
        self._rules = rules
        self._limit = limit

    def product(self) -> Product:
        groups = self._groups()
        if not groups:
            raise ExpansionError("the expansion names no array to make members of")
        driving = {name for group in groups for name in group}
        others = [name for name in self._rules.arrays if name not in driving]
        whole = {name: list(self._kept((name,))[name]) for name in others}
        return Product([self._axis(group) for group in groups], whole)

    def _groups(self) -> list[tuple[str, ...]]:
        """Return the axes, slowest first, each as the arrays that are zipped in it."""
        rules = self._rules
        zipped = rules.zip
        groups = [zipped if name in zipped else (name,) for name in rules.combine]
        if not rules.combine and not rules.zip:
            zipped = self._mapped()
        groups += [zipped] if zipped else []
        named = {name for group in groups for name in group}
        groups += [(name,) for name in self._unnamed_drivers() if name not in named]
        return list(dict.fromkeys(groups))

    def _mapped(self) -> tuple[str, ...]:
        rules = self._rules
        mapped = [name for name in rules.arrays if name not in rules.sequences]
        plain = [name for name in mapped if name not in rules.filters]
        return tuple(plain if plain or self._unnamed_drivers() else mapped)

    def _unnamed_drivers(self) -> list[str]:
        """Return the arrays that make members although neither `combine` nor `zip` names them."""
        return [*self._rules.sequences, *self._rules.chunked_by_name]

    def _axis(self, group: tuple[str, ...]) -> Zipped:
        kept = self._kept(group)
        chunk = self._rules.chunk
        if len({chunk.get(name) for name in group}) == 1:
            # Only to check the lengths. In chunks, arrays of unequal length could have equal numbers of chunks,
            # because the last chunk may be shorter.
            Zipped(kept)
        return Zipped({name: Chunks(kept[name], chunk[name]) if name in chunk else kept[name] for name in group})

    def _kept(self, group: tuple[str, ...]) -> dict[str, Sequence[Any]]:
        """Return the arrays of `group` without the rows that filter and distinct drop."""
        arrays = {name: self._rules.arrays[name] for name in group}
        lengths = {len(array) for array in arrays.values()}
        # Unequal lengths make no rows: each array is filtered alone, and a zip refuses lengths that still differ.
        if len(lengths) > 1:
            return {name: self._kept((name,))[name] for name in group}
        tests = [*self._filter_tests(arrays), *self._distinct_tests(arrays)]
        if not tests:
            return arrays
        (length,) = lengths
        if length > self._limit:
            raise ExpansionError(f"{group[0]!r} has {length} items to filter, over the limit of {self._limit}")
        rows = [row for row in range(length) if all(test(row) for test in tests)]
        return {name: [array[row] for row in rows] for name, array in arrays.items()}

    def _filter_tests(self, arrays: Arrays) -> Iterator[Callable[[int], bool]]:
        for name, array in arrays.items():
            for field, condition in self._rules.filters.get(name, ()):
                yield partial(_meets, array, field, condition)

    def _distinct_tests(self, arrays: Arrays) -> Iterator[Callable[[int], bool]]:
        """Yield tests that are true for the first of equal rows. They run last, so that a row that a filter drops
        does not hide an equal row."""
        distinct = self._rules.distinct
        if isinstance(distinct, bool):
            # The numbers of a sequence differ anyway.
            if distinct and not arrays.keys() <= set(self._rules.sequences):
                yield partial(_is_new, [(array, ()) for array in arrays.values()], set())
            return
        for name, array in arrays.items():
            for field in distinct.get(name, ()):
                yield partial(_is_new, [(array, field)], set())


def _meets(array: Sequence[Any], field: Sequence[str], condition: Condition, row: int) -> bool:
    return condition.holds(walk(array[row], field))


def _is_new(columns: Sequence[tuple[Sequence[Any], Sequence[str]]], seen: set[str], row: int) -> bool:
    values = (walk(array[row], field) for array, field in columns)
    key = canonical_json([None if value is MISSING else value for value in values])
    if key in seen:
        return False
    seen.add(key)
    return True
