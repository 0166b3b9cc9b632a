"""An offer as it travels: the header and its payload."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.core.wire.messages import Offer


class Offered(NamedTuple):
    """An offer and its segments: the task's document and the slices of arrays, empty where the store has them."""

    offer: Offer
    segments: tuple[bytes, bytes]

    def with_deadline(self, deadline: float) -> Offered:
        """The same offer with its run's deadline by the worker's own clock, in seconds since the epoch."""
        return Offered(self.offer.model_copy(update={"deadline": deadline}), self.segments)
