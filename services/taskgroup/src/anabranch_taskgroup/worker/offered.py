"""An offer as it travels, its header and its payload, and the key of the delivery that it is about."""

from __future__ import annotations

from typing import NamedTuple

from anabranch.core.wire.messages import Offer
from anabranch.core.wire.task_document import TaskDocument

ChunkKey = tuple[str, str, str, int, int]
"""One delivery of one chunk: run id, group, task, number, fence. The fence has the admission of the run."""


def chunk_key(offer: Offer) -> ChunkKey:
    """The delivery that an offer is about."""
    return offer.run_id, offer.group, offer.task, offer.chunk, offer.fence


class Offered(NamedTuple):
    """An offer with what its members need.

    Attributes:
        segments: the task's document and the slices of arrays, empty where the store has them.
        document: the task's document in place of its segment, if the owner is in the same process. Members share
            its values with the owner's state, and get copies.
    """

    offer: Offer
    segments: tuple[bytes, bytes]
    document: TaskDocument | None = None

    def offered_again(self) -> Offered:
        """The same offer, which says that it was published before."""
        return self._replace(offer=self.offer.model_copy(update={"again": True}))

    def with_deadline(self, deadline: float) -> Offered:
        """The same offer with its run's deadline by the worker's own clock, in seconds since the epoch."""
        return self._replace(offer=self.offer.model_copy(update={"deadline": deadline}))
