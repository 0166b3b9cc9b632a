"""Signals for runs that are not submitted yet. Data with invariants, no decisions. Pure.

A signal may overtake its request, since the two can be in different partitions of `requests`. It is kept here, and
in the store for later owners of the partition, until its run is admitted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.wire.messages import Json

MAX_SIGNALS, MAX_BYTES = 100, 1_000_000
"""Signals of one run, and bytes of their values as JSON, that are kept. Further ones become dead letters."""
MEMORY_BYTES = 8_000_000
"""Bytes that a partition keeps in memory between batches. The store has all of them."""


@dataclass(frozen=True, slots=True)
class EarlySignal:
    """A signal; `position` is that of its record over all generations of the log, `size` are its value's bytes."""

    name: str
    value: Json
    signal_id: str
    position: int
    size: int


def early_signal(name: str, value: Json, signal_id: str, position: int) -> EarlySignal:
    return EarlySignal(name, value, signal_id, position, len(dumps(value)))


@dataclass(slots=True)
class EarlySignals:
    """By run, and by the id of the signal, in the order of arrival."""

    by_run: OrderedDict[str, dict[str, EarlySignal]] = field(default_factory=OrderedDict)
    held_bytes: int = 0

    def keep(self, run_id: str, signal: EarlySignal) -> bool:
        """Keep a signal; a repeated id is kept once. False if the run has as many as are kept."""
        known = self.by_run.setdefault(run_id, {})
        self.by_run.move_to_end(run_id)
        if signal.signal_id in known:
            return True
        if len(known) >= MAX_SIGNALS or signal.size + sum(each.size for each in known.values()) > MAX_BYTES:
            return False
        known[signal.signal_id] = signal
        self.held_bytes += signal.size
        return True

    def pop(self, run_id: str) -> Iterable[EarlySignal]:
        """Remove and return the signals of a run in the order of arrival."""
        found = list(self.by_run.pop(run_id, {}).values())
        self.held_bytes -= sum(signal.size for signal in found)
        return found

    def trim(self) -> None:
        """Remove the oldest from memory until they fit. Call it only after the effects of a batch were performed,
        and before those of the next batch are read from the store."""
        while self.held_bytes > MEMORY_BYTES:
            self.pop(next(iter(self.by_run)))

    def encode(self, run_id: str) -> bytes:
        """The signals of a run as the store has them."""
        known = self.by_run.get(run_id, {}).values()
        return dumps([[each.name, each.value, each.signal_id, each.position] for each in known])

    def recall(self, run_id: str, stored: bytes, before: int) -> None:
        """Add the signals that the store has, without those from position `before` on: their records follow."""
        found: list[list[Any]] = orjson.loads(stored)
        for name, value, signal_id, position in found:
            if position < before:
                self.keep(run_id, early_signal(name, value, signal_id, position))
