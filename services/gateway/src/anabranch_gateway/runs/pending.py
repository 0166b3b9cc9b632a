"""Runs that were just submitted at this gateway and may not be admitted yet.

Their submitters look them up at once, before the Agency has written their tombstones. Entries are few and
short-lived: a run that is dropped from here has long been in the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.bounded import BoundedDict
from anabranch.core.wire.run_view import RunView
from anabranch.ports import Clock

CACHE_SIZE = 20_000
MAX_AGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A request that was published to Kafka.

    Attributes:
        hash: the hash of the request's body; None for a retry.
        submitted_at: seconds since the epoch.
        events_from: an offset of the run's partition of events before its first event.
    """

    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str | None
    name: str | None
    submitted_at: float
    events_from: int

    def to_view(self) -> RunView:
        """The view of the run with what is known before its admission."""
        return RunView(
            self.run_id,
            self.request_id,
            self.session_id,
            name=self.name,
            submitted_at=self.submitted_at,
            last_fact_at=self.submitted_at,
            project=self.project,
            events_from=self.events_from,
        )


class PendingRuns:
    """The most recent submissions, by run id.

    The first submission of a run id counts, as it does for the Agency.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: BoundedDict[str, PendingRun] = BoundedDict(CACHE_SIZE)

    def add(self, pending: PendingRun) -> None:
        self._runs.setdefault(pending.run_id, pending)

    def get(self, run_id: str) -> PendingRun | None:
        """The pending run; None if it is unknown or was submitted more than a minute ago."""
        pending = self._runs.get(run_id)
        if pending is not None and self._clock.now() - pending.submitted_at > MAX_AGE_SECONDS:
            del self._runs[run_id]
            return None
        return pending
