"""How long facts are kept after they were last of use. Pure: time is passed in.

Redis keys expire by themselves; this bounds what the event manager itself remembers.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document

ABANDONED_SECONDS = 7 * 86_400.0
"""A run without an end, or a subscription without a run, goes after this: the log has forgotten it too."""


def keep_until(key: str, document: Document, retention: float) -> float | None:
    """Until when a document is kept; None for one that goes together with its run.

    Args:
        retention: seconds that an ended run is kept.
    """
    kind = key.partition("/")[0]
    if kind == "run":
        if has_ended(document):
            return float(document["ended_at"]) + retention
        return float(document["last_fact_at"]) + ABANDONED_SECONDS
    if kind == "subscriptions":
        return float(document["at"]) + ABANDONED_SECONDS
    return None


class RetentionSchedule:
    """When each document is to go. A later date replaces an earlier one, and the other way round."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def keep(self, key: str, until: float) -> None:
        """Keep a document until then."""
        known = self._until.get(key)
        self._until[key] = until
        if known is None or until < known:
            heapq.heappush(self._heap, (until, key))

    def due(self, now: float) -> Sequence[str]:
        """The keys to drop now; they are forgotten here."""
        dropped = []
        while self._heap and self._heap[0][0] <= now:
            _, key = heapq.heappop(self._heap)
            until = self._until.get(key)
            if until is None:
                continue
            if until > now:
                heapq.heappush(self._heap, (until, key))
            else:
                del self._until[key]
                dropped.append(key)
        return dropped
