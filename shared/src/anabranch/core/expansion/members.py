"""Expands one task to its members: the sources of its arrays, the number of members, the names of each. Pure.

`sources` names the arrays to fetch, `expand` checks the fetched arrays and counts members, and `Expanded.members`
computes any range of members at the cost of that range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

import orjson

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.lazy_products import Combinations, Zipped
from anabranch.core.expansion.matrix import Fault, Matrix, check_entries
from anabranch.core.expansion.transform_rules import apply_rules, check_rules, match_name, named_arrays
from anabranch.core.templates import MISSING, SYSTEM_NAMES, Path, as_text, compact_json, walk

if TYPE_CHECKING:
    from anabranch.core.request.models import Expansion

MEMBER_LIMIT: Final = 1_000_000
_SHOWN = 60


@dataclass(slots=True)
class Member:
    """One member of an expanded task.

    `variables` are exactly the loop variables (of a matrix, the combination). `scope` has all the names a
    template may use for it: the variables, the identifiers, and the fields of those items that are objects.
    `identifier` is the text of the first of `identifiers`, or the index if there are none. `error` is the reason
    if the member fails before it runs, because its item lacks the field of an identifier; `identifier` is then
    None. Immutable by convention; not frozen, because creating frozen instances is slow and a worker creates a
    hundred thousand a second.
    """

    index: int
    variables: dict[str, Any]
    scope: Mapping[str, Any]
    identifier: str | None
    error: str | None


def member_name(task: str, index: int) -> str:
    """Return the name of member `index` (from 0) of `task`: ``<task>_<index + 1>``."""
    return f"{task}_{index + 1}"


def sources(config: Expansion) -> dict[str, str | list[Any]]:
    """Return the source of each array: loop variable -> context path, or the literal list.

    An array that only a rule names has its path as loop variable.
    """
    found: dict[str, str | list[Any]] = dict(config.array_mapping)
    rules = config.transform_rules
    if config.type != "custom" or rules is None:
        return found
    known = {**dict.fromkeys(_paths(config).values(), ""), **dict.fromkeys([*found, *(rules.sequence or ())], "")}
    whole = {*(rules.combine or ()), *(rules.zip or ())}
    for name in named_arrays(rules):
        if match_name(name, known) is None:
            # combine and zip name whole arrays, whose path may have dots. Others may name a field of the items.
            array = name if name in whole else name.split(".", 1)[0]
            found[array] = array
            known[array] = ""
    return found


def check_config(config: Expansion) -> list[Fault]:
    """Return the errors of `config` that do not depend on its arrays, each as (path within it, message)."""
    found: list[Fault] = []
    if config.type == "matrix":
        found = check_entries(config.array_mapping, include=config.include, exclude=config.exclude)
    if (rules := config.transform_rules) is not None:
        arrays = sources(config) if config.type == "custom" else ()
        faults = check_rules(rules, arrays, paths=_paths(config))
        found += [(("transform_rules", *place), message) for place, message in faults]
    return found


def _paths(config: Expansion) -> dict[str, str]:
    return {name: source for name, source in config.array_mapping.items() if isinstance(source, str)}


def lookup_path(context: Mapping[str, Any], path: str) -> Any:
    """Return the value at `path` in `context`: of the longest prefix that is a key, then along the rest of the
    path.

    Raises KeyError if there is no such value.
    """
    value = Path(path).find(context)
    if value is MISSING:
        raise KeyError(path)
    return value


def as_list(value: Any, variable: str) -> list[Any]:
    """Return `value` if it is a list, or the list in its JSON text. Raises ExpansionError for anything else."""
    found = _parsed(value) if isinstance(value, str) else value
    if isinstance(found, list):
        return found
    raise ExpansionError(
        f"the array for {variable!r} is {_kind(found)}, not a list: {_shortened(value)}; "
        "map it to a list, or to a JSON text of one"
    )


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith("["):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _kind(value: Any) -> str:
    kinds = {str: "a string", bool: "a boolean", int: "a number", float: "a number", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def _shortened(value: Any) -> str:
    text = compact_json(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


class Expanded:
    """The members of one expansion by index, computed from the arrays when they are read."""

    __slots__ = ("_combinations", "_identifiers", "count")

    def __init__(self, combinations: Combinations, identifiers: Mapping[str, str]) -> None:
        self._combinations = combinations
        self._identifiers = [(placeholder, Path(path)) for placeholder, path in identifiers.items()]
        self.count = combinations.count

    def members(self, start: int = 0, stop: int | None = None) -> Iterator[Member]:
        """Yield the members from `start` to `stop`, exclusive, or to the last. The cost is that of the range."""
        start = max(start, 0)
        stop = self.count if stop is None else min(stop, self.count)
        combinations = self._combinations.between(start, max(start, stop))
        numbered = enumerate(combinations, start)
        if self._identifiers:
            return starmap(self._identified, numbered)
        return (Member(index, found, _names(found), str(index), None) for index, found in numbered)

    def _identified(self, index: int, variables: dict[str, Any]) -> Member:
        scope = {**_names(variables)}  # a copy: `_names` may return the variables themselves
        identifier = None
        for placeholder, path in self._identifiers:
            value = path.find(variables)
            if value is MISSING:
                value = _within(variables, path.text)
            if value is MISSING:
                error = f"the item has no {path.text!r}, which identifies it as {placeholder!r}"
                return Member(index, variables, scope, None, error)
            scope[placeholder] = value
            identifier = as_text(value) if identifier is None else identifier
        return Member(index, variables, scope, identifier, None)


def _names(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the loop variables and, with lower precedence, the fields of their items; earlier variables win."""
    if dict not in map(type, variables.values()):
        return variables
    items = [value for value in variables.values() if type(value) is dict]
    names = items[0] if len(items) == 1 else _fields(items)
    # `{index}` is always that of the member, even if its item has a field `index`; see `templates.member_scope`.
    if not SYSTEM_NAMES.isdisjoint(names):
        names = {name: value for name, value in names.items() if name not in SYSTEM_NAMES}
    return {**names, **variables}


def _fields(items: list[dict[str, Any]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for item in reversed(items):
        names.update(item)
    return names


def _within(variables: Mapping[str, Any], path: str) -> Any:
    """Return the value at `path` in the first item that has it; an identifier may be relative to the item."""
    segments = path.split(".")
    found = (walk(item, segments) for item in variables.values())
    return next((value for value in found if value is not MISSING), MISSING)


def expand(
    config: Expansion,
    arrays: Mapping[str, Sequence[Any]],
    *,
    limit: int = MEMBER_LIMIT,
    check_identifiers: bool = True,
) -> Expanded:
    """Return the members that `config` makes of `arrays` (loop variable -> items, as `sources` names them).

    An array may be any sequence, even one that fetches its pages: only its length, items and slices are read, and
    of an array or matrix expansion only those of the members that are computed.

    An expansion without members is not an error here; see `on_empty`. With `output_format` separate every
    identifier is read once to find repeated ones; `check_identifiers=False` skips this for arrays that were
    checked before.

    Raises ExpansionError for arrays of unequal length, for more members than `limit`, for a repeated
    identifier, and for rules or matrix entries that do not fit the arrays.
    """
    expanded = Expanded(_combinations(config, arrays, limit), config.identifiers)
    if expanded.count > limit:
        raise ExpansionError(f"the expansion has {expanded.count} members, over the limit of {limit}")
    if check_identifiers and config.output_format == "separate" and config.identifiers:
        _refuse_repeated(expanded)
    return expanded


def _combinations(config: Expansion, arrays: Mapping[str, Sequence[Any]], limit: int) -> Combinations:
    if config.type == "matrix":
        return Matrix(arrays, include=config.include, exclude=config.exclude)
    if config.type == "custom" and config.transform_rules is not None:
        return apply_rules(config.transform_rules, arrays, paths=_paths(config), limit=limit)
    if not arrays:
        raise ExpansionError("the expansion names no array: give array_mapping at least one")
    return Zipped(arrays)


def _refuse_repeated(expanded: Expanded) -> None:
    first: dict[str, int] = {}
    for member in expanded.members():
        if member.identifier is None:
            continue
        if (earlier := first.setdefault(member.identifier, member.index)) != member.index:
            raise ExpansionError(
                f"members {earlier} and {member.index} have the same identifier, {member.identifier!r}: "
                "with output_format separate each needs its own"
            )
