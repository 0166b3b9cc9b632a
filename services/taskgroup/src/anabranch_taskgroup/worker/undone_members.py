"""The members of a compensation: each sees what the completed member that it undoes saw, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anabranch.core.expansion.members import Member, expand
from anabranch.core.ranges import Ranges
from anabranch.core.request.models import Expansion
from anabranch.core.wire.messages import Json, Offer
from anabranch.core.wire.undone import RESULT, SLICED_INDEXES, SLICED_RESULTS


def undone_members(
    expansion: Expansion, arrays: Mapping[str, list[Json]] | None, offer: Offer, slices: Mapping[str, list[Json]]
) -> Iterator[tuple[int, Member]]:
    """The (index, member) pairs of an offer of a compensation.

    Args:
        arrays: of the task that is undone, if its members are not made of slices.
        slices: for each member of the offer, the results of the member that it undoes, and its index in `arrays`
            or its items.
    """
    results = slices[SLICED_RESULTS]
    numbers = slices.get(SLICED_INDEXES)
    if numbers is None:
        arrays = {name: items for name, items in slices.items() if name != SLICED_RESULTS}
        numbers = list(range(len(results)))
    expanded = expand(expansion, arrays or {}, check_identifiers=False)
    for index, number, result in zip(Ranges(offer.spans).indexes(), numbers, results, strict=True):
        [member] = expanded.members(number, number + 1)
        # A variable hides a result of the same name, which is still there as `result.<key>`.
        scope = {**result, **member.scope, RESULT: result}
        yield index, Member(index, member.variables, scope, str(index), member.error)
