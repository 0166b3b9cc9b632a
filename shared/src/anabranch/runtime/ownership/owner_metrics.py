"""Metrics and spans of an owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anabranch.core.telemetry import CLAIMS, PARTITIONS, RECORDS_QUEUED
from anabranch.ports import Clock, Telemetry
from anabranch.runtime.ownership.effects import Count, Emit, Lag


class OwnerMetrics:
    """Records the metrics of one owner. `topic` is its topic's name without prefix."""

    def __init__(self, telemetry: Telemetry, clock: Clock, topic: str) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._topic = topic

    def record(self, measured: Sequence[Count | Lag | Emit], *, is_caught_up: bool) -> None:
        """Record the metrics and spans of a turn. A replay records no metrics: the last owner may have."""
        for effect in measured:
            if isinstance(effect, Emit):
                self._telemetry.emit(effect.span)
            elif is_caught_up and isinstance(effect, Count):
                self._telemetry.count(effect.metric, effect.amount, **dict(effect.labels))
            elif is_caught_up and isinstance(effect, Lag):
                late = max(0.0, self._clock.now() - effect.since)
                self._telemetry.observe(effect.metric, late, **dict(effect.labels))

    def count_claim(self) -> None:
        """Count a claim."""
        self._telemetry.count(CLAIMS, topic=self._topic)

    def show_queued(self, queued: Iterable[int]) -> None:
        """Show the number of queued records, given for each owned partition."""
        if self._telemetry.measures:
            waiting = list(queued)
            self._telemetry.show(PARTITIONS, {(self._topic,): len(waiting)}, part=self._topic)
            self._telemetry.show(RECORDS_QUEUED, {(self._topic,): sum(waiting)}, part=self._topic)
