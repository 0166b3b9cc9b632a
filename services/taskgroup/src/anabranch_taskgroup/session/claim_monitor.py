"""Which offered chunks need something done: never claimed, or claimed by a worker that is gone. Pure.

The shell reads claims and liveness keys, this says what follows. The clock stops while the store is away: a
worker is only judged by a store that has been there for longer than a liveness key lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class ChunkDelivery(NamedTuple):
    """One delivery of one chunk."""

    run_id: str
    session_id: str
    group: str
    task: str
    chunk: int
    fence: int


FIRST_WAIT = 2.0
MAX_WAIT = 60.0
EARLY_OFFERS = 3
"""So many offers wait for a claim no longer than the first: what went to a busy worker soon goes to another."""
SETTLE_SECONDS = 6.0
"""After the store was away workers show again that they live, and claim again what they hold, within this time:
how long a sign of life lasts."""


@dataclass(slots=True)
class _Offered:
    at: float
    wait: float = FIRST_WAIT
    times: int = 1


@dataclass(slots=True)
class Findings:
    """What one look found: chunks to offer again, and (chunk, worker) of those whose worker is gone."""

    offer_again: list[ChunkDelivery] = field(default_factory=list)
    lost: list[tuple[ChunkDelivery, str]] = field(default_factory=list)


class ClaimMonitor:
    """Remembers when chunks were offered, and which workers were missing at the last look."""

    def __init__(self, settle: float = SETTLE_SECONDS) -> None:
        self._settle = settle
        self._offered: dict[ChunkDelivery, _Offered] = {}
        self._missing: set[str] = set()
        self._settled_at = 0.0

    def offered(self, place: ChunkDelivery, now: float) -> bool:
        """A chunk was offered; after the first few each offer waits twice as long for a claim. False where it was
        offered before."""
        known = self._offered.get(place)
        if known is None:
            self._offered[place] = _Offered(now)
        else:
            known.at, known.times = now, known.times + 1
            known.wait = max(known.wait, FIRST_WAIT)
            if known.times > EARLY_OFFERS:
                known.wait = min(known.wait * 2, MAX_WAIT)
        return known is None

    def adopt(self, place: ChunkDelivery, now: float) -> None:
        """A chunk that was offered before, maybe by a former owner: it is offered at the next look that begins,
        unless somebody has it. A look that is under way does not know it, and leaves it alone."""
        self._offered[place] = _Offered(now, wait=0.0, times=0)

    def judge(self, claims: Mapping[ChunkDelivery, str | None], alive: Mapping[str, bool], now: float) -> Findings:
        """What to do about the outstanding chunks.

        Args:
            claims: the holder of each outstanding chunk, None where nobody claimed it.
            alive: whether each holder shows that it lives.
            now: seconds of a monotonic clock when the look began; what was offered since is left alone.
        """
        findings = Findings()
        if now < self._settled_at:
            return findings
        missing = {worker for worker, is_alive in alive.items() if not is_alive}
        for place, holder in claims.items():
            if holder is None:
                offered = self._offered.get(place)
                # One that was not offered belongs to a turn whose outcomes are not durable yet.
                if offered is not None and now - offered.at >= offered.wait:
                    findings.offer_again.append(place)
            elif holder in missing and holder in self._missing:
                findings.lost.append((place, holder))
        self._missing = missing
        self._offered = {
            place: known for place, known in self._offered.items() if place in claims or known.at >= now
        }
        return findings

    def store_was_away(self, now: float) -> None:
        """Nothing is judged until workers had time to show what they are and hold."""
        self._missing = set()
        self._settled_at = now + self._settle
