"""Numbers that tell one admission of a request id, and one life of a log, from another. Pure.

An offset alone is not enough: a topic that was deleted and created again counts from 0, and what the store kept
from before would look newer than all that is new. So positions carry the log's generation in their upper bits.

A request id may be admitted again once everything about it was forgotten. Its run id is the same, so the fence of
each chunk begins at a number of its admission: what workers of an earlier admission still hold, claim or report
is older, and is refused as that of any earlier delivery.
"""

from __future__ import annotations

OFFSET_BITS = 40
"""Offsets below 2**40; generations below 2**7 keep a fence within the 63 bits of a JSON integer."""
FENCES = 2**16
"""Deliveries of one chunk that its fence counts before it reaches the numbers of the admission after it: more
than a week of them, where no worker has the agent and the chunk comes back every ten seconds."""
UNTOLD = 0
"""The admission of a run that was opened by an earlier release, which told none. Whatever is told of it counts."""


def log_position(generation: int, offset: int) -> int:
    """A position that rises over all lives of a partition. Generation 0 leaves the offset as it is."""
    return (generation << OFFSET_BITS) + offset


def parts_of(position: int) -> tuple[int, int]:
    """The generation of a position, and the offset in it."""
    return divmod(position, 1 << OFFSET_BITS)


def offset_of(position: int, generation: int) -> int | None:
    """The offset of a position in the log's life `generation`; None where it is of another one."""
    found, offset = parts_of(position)
    return offset if found == generation else None


def admission_at(position: int) -> int:
    """The number of the admission by the record at a position. It is never `UNTOLD`, also at the first offset."""
    return position + 1


def first_fence(admission: int) -> int:
    """The fence of a chunk's first delivery."""
    return admission * FENCES


def admission_of(fence: int) -> int:
    """Which admission a fence is of."""
    return fence // FENCES
