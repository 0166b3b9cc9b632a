"""Log positions, admission numbers and fences: numbers that grow even if a topic or the store starts over. Pure.

An offset alone is not enough. A topic that was deleted and created again counts from 0, so a value that the store
kept from the old topic would look newer than every new record. A position therefore has the generation of the log
in its upper bits.

A request id can be admitted again after the store has forgotten its run. The run id is the same, so the fences of
the run's chunks start at a number derived from the admission. A claim or report by a worker of the earlier
admission then has a lower fence, and is refused like that of any earlier delivery.
"""

from __future__ import annotations

OFFSET_BITS = 40
"""Bits of an offset in a position. With generations below 2**7, a fence (40 + 7 + 16 bits) fits into the 63 bits
of a signed JSON integer."""
FENCES = 2**16
"""Fences of one admission: deliveries of a chunk before its fence reaches those of the next admission. Enough for
a week in which no worker has the agent and the chunk is returned every ten seconds."""
UNKNOWN_ADMISSION = 0
"""The admission number of a run that was opened by an earlier release, whose records have no such number. Every
report about such a run is accepted."""


def log_position(generation: int, offset: int) -> int:
    """The position of an offset, which grows over all generations of a log. In generation 0 it is the offset."""
    return (generation << OFFSET_BITS) + offset


def parts_of(position: int) -> tuple[int, int]:
    """Split a position into its generation and offset."""
    return divmod(position, 1 << OFFSET_BITS)


def offset_of(position: int, generation: int) -> int | None:
    """The offset of a position; None if the position is of another generation of the log."""
    found, offset = parts_of(position)
    return offset if found == generation else None


def admission_at(position: int) -> int:
    """The number of the admission by the record at a position; never `UNKNOWN_ADMISSION`, even at offset 0."""
    return position + 1


def first_fence(admission: int) -> int:
    """The fence of a chunk's first delivery."""
    return admission * FENCES


def admission_of(fence: int) -> int:
    """The admission to which a fence belongs."""
    return fence // FENCES
