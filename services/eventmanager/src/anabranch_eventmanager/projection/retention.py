"""Schedules when documents are dropped. Pure: time is passed in.

Redis keys expire by themselves; this bounds the memory of the event manager.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.due import DueQueue
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document

ABANDONED_SECONDS = 7 * 86_400.0
"""Seconds after which a run without an end, or a subscription without a run, is dropped. The log's retention has
deleted its records by then too."""


def keep_until(key: str, document: Document, retention: float) -> float | None:
    """When a document is dropped, in seconds since the epoch; None for one that is dropped together with its run.

    Args:
        retention: seconds for which an ended run is kept.
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
    """When each document is dropped. A later date replaces an earlier one, and the other way round."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._queue: DueQueue[str] = DueQueue()

    def keep(self, key: str, until: float) -> None:
        """Keep a document until this time."""
        self._until[key] = until
        # A later date is not queued but found when the document comes up, as in `NudgeSchedule.observe`.
        queued_until = self._queue.due_at(key)
        if queued_until is None or until < queued_until:
            self._queue.schedule(key, until)

    def due(self, now: float) -> Sequence[str]:
        """Remove and return the keys of the documents to drop now."""
        dropped = []
        for key in self._queue.pop_due(now):
            if self._until[key] > now:
                self._queue.schedule(key, self._until[key])
            else:
                del self._until[key]
                dropped.append(key)
        return dropped
