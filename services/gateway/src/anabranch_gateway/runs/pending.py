"""Runs that this gateway has just taken in: the Agency may not have admitted them yet, and their submitter may
look at them at once. Bounded; what is forgotten is by then known to the store.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from anabranch.core.wire.run_view import RunView
from anabranch.ports import Clock

KEPT = 20_000
KEPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A request that was published. `hash` is that of its body, None of a retry.

    `events_from`: no event of it stands before this offset of its partition.
    """

    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str | None
    name: str | None
    at: float
    events_from: int

    def to_view(self) -> RunView:
        """The run's view, as far as this gateway knows the run."""
        return RunView(
            self.run_id,
            self.request_id,
            self.session_id,
            name=self.name,
            submitted_at=self.at,
            last_fact_at=self.at,
            project=self.project,
            events_from=self.events_from,
        )


class PendingRuns:
    """The last of them, by run id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, PendingRun] = OrderedDict()

    def add(self, taken: PendingRun) -> None:
        self._runs.setdefault(taken.run_id, taken)
        while len(self._runs) > KEPT:
            self._runs.popitem(last=False)

    def get(self, run_id: str) -> PendingRun | None:
        taken = self._runs.get(run_id)
        if taken is not None and self._clock.now() - taken.at > KEPT_SECONDS:
            del self._runs[run_id]
            return None
        return taken
