"""Forecasts the number of members of each task before the run. Pure.

Arrays that are literal or part of the request's own context can be counted in advance; all others exist only at
run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.lazy_products import count_between
from anabranch.core.expansion.members import MEMBER_LIMIT, Expanded, as_list, expand, lookup_path, sources
from anabranch.core.request.models import Expansion

UNLIMITED = 1 << 62
CHECKED_IDENTIFIERS = 10_000
"""Maximum number of members among which repeated identifiers are searched in advance; otherwise at run time."""


@dataclass(frozen=True, slots=True)
class MemberForecast:
    """``count`` is None if it is not known before the run; ``error`` is the reason if the expansion will fail."""

    count: int | None
    expanded: Expanded | None = None
    error: str = ""


ORDINARY = MemberForecast(1)
"""The forecast for a task without expansion."""
AT_RUN_TIME = MemberForecast(None)


def forecast_members(
    expansion: Expansion, array_keys: Mapping[str, str], context: Mapping[str, Any]
) -> MemberForecast:
    """Count the members of ``expansion``.

    Args:
        array_keys: context path -> the key that holds the array.
        context: the request's context without the keys that the request produces itself.
    """
    found = sources(expansion)
    paths = [source for source in found.values() if isinstance(source, str)]
    if any(array_keys.get(path) not in context for path in paths):
        return AT_RUN_TIME
    if (length := _longest_sequence(expansion)) > MEMBER_LIMIT and _walks_all(expansion):
        return MemberForecast(length)
    try:
        arrays = {name: _array(name, source, context) for name, source in found.items()}
        expanded = expand(expansion, arrays, limit=UNLIMITED, check_identifiers=False)
        if expanded.count <= CHECKED_IDENTIFIERS:
            expand(expansion, arrays)  # only to check the identifiers, which reads every member
    except ExpansionError as error:
        return MemberForecast(None, error=str(error))
    return MemberForecast(expanded.count, expanded)


def _longest_sequence(expansion: Expansion) -> int:
    rules = expansion.transform_rules
    sequences = (rules.sequence or {}).values() if rules else ()
    return max((count_between(item.start, item.end, item.stride) for item in sequences), default=0)


def _walks_all(expansion: Expansion) -> bool:
    """True if counting needs every item, as with a filter; sequences that are too long for that are not
    counted."""
    rules = expansion.transform_rules
    return rules is not None and bool(rules.filter or rules.distinct)


def _array(name: str, source: str | list[Any], context: Mapping[str, Any]) -> list[Any]:
    if not isinstance(source, str):
        return source
    try:
        return as_list(lookup_path(context, source), name)
    except KeyError:
        raise ExpansionError(f"the array for {name!r} is missing: the context has no {source!r}") from None
