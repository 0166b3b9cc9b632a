"""Which offered chunks need something done: never claimed, or claimed by a worker that is gone. Pure.

The shell reads claims and liveness keys, this says what follows. The clock stops while the store is away: a
worker is only judged by a store that has been there for longer than a liveness key lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Place(NamedTuple):
    """One delivery of one chunk."""

    run_id: str
    session_id: str
    group: str
    task: str
    chunk: int
    fence: int


FIRST_WAIT = 2.0
MOST_WAIT = 60.0


@dataclass(slots=True)
class _Offered:
    at: float
    wait: float = FIRST_WAIT


@dataclass(slots=True)
class Findings:
    """What one look found: chunks to offer again, and (chunk, worker) of those whose worker is gone."""

    offer_again: list[Place] = field(default_factory=list)
    lost: list[tuple[Place, str]] = field(default_factory=list)


class Ledger:
    """Remembers when chunks were offered, and which workers were missing at the last look."""

    def __init__(self) -> None:
        self._offered: dict[Place, _Offered] = {}
        self._missing: set[str] = set()

    def offered(self, place: Place, now: float) -> None:
        """A chunk was offered; each offer after the first waits twice as long for a claim."""
        known = self._offered.get(place)
        if known is None:
            self._offered[place] = _Offered(now)
        else:
            known.at, known.wait = now, min(known.wait * 2, MOST_WAIT)

    def judge(self, claims: Mapping[Place, str | None], alive: Mapping[str, bool], now: float) -> Findings:
        """What to do about the outstanding chunks.

        Args:
            claims: the holder of each outstanding chunk, None where nobody claimed it.
            alive: whether each holder shows that it lives.
            now: seconds of a monotonic clock.
        """
        findings = Findings()
        missing = {worker for worker, is_alive in alive.items() if not is_alive}
        for place, holder in claims.items():
            if holder is None:
                offered = self._offered.get(place)
                if offered is None or now - offered.at >= offered.wait:
                    findings.offer_again.append(place)
            elif holder in missing and holder in self._missing:
                findings.lost.append((place, holder))
        self._missing = missing
        self._offered = {place: known for place, known in self._offered.items() if place in claims}
        return findings

    def store_was_away(self) -> None:
        """Nobody is missing until seen missing twice from here on."""
        self._missing = set()
