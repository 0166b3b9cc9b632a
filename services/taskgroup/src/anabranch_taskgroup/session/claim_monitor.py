"""Finds offered chunks that no worker has claimed, or that a dead worker has claimed. Pure.

The shell reads the claims and the liveness keys of workers; this decides what follows. A worker counts as dead
only if the store has been available for longer than a liveness key lasts: a store that is back after an outage
lacks the keys of workers that are alive.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
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
"""The first offers of a chunk wait equally long for a claim, so that a chunk in a busy worker's queue soon goes to
another worker; each later offer waits twice as long."""
SETTLE_SECONDS = 6.0
"""Seconds after an outage of the store within which workers renew their liveness keys and their claims."""


@dataclass(slots=True)
class _Offered:
    at: float
    wait: float = FIRST_WAIT
    times: int = 1


@dataclass(slots=True)
class Findings:
    """The result of one check: chunks to offer again, and (chunk, worker) of those whose worker is dead."""

    offer_again: list[ChunkDelivery] = field(default_factory=list)
    lost: list[tuple[ChunkDelivery, str]] = field(default_factory=list)


class ClaimMonitor:
    """Remembers when chunks were offered, and which workers had no liveness key at the last check."""

    def __init__(self, settle: float = SETTLE_SECONDS) -> None:
        self._settle = settle
        self._offered: dict[ChunkDelivery, _Offered] = {}
        self._missing: set[str] = set()
        self._settled_at = 0.0

    def offered(self, delivery: ChunkDelivery, now: float, *, brief: bool = False) -> bool:
        """Note that a chunk was offered. Returns False if it was offered before.

        Args:
            brief: each offer waits as briefly as the first: the caller knows whether a further one is of use.
        """
        known = self._offered.get(delivery)
        if known is None:
            self._offered[delivery] = _Offered(now)
        else:
            known.at, known.times = now, known.times + 1
            # An adopted chunk begins without a wait.
            known.wait = max(known.wait, FIRST_WAIT)
            if known.times > EARLY_OFFERS and not brief:
                known.wait = min(known.wait * 2, MAX_WAIT)
        return known is None

    def has(self, delivery: ChunkDelivery) -> bool:
        """True if a chunk was offered or adopted, and has not ended by the last check."""
        return delivery in self._offered

    def adopt(self, delivery: ChunkDelivery, now: float) -> None:
        """Take on a chunk that a former owner may have offered: the next check that begins offers it, unless it is
        claimed. A check that is under way has not read its claim, and leaves it out."""
        self._offered[delivery] = _Offered(now, wait=0.0, times=0)

    def judge(
        self,
        claims: Mapping[ChunkDelivery, str | None],
        alive: Mapping[str, bool],
        now: float,
        here: Container[ChunkDelivery] = (),
    ) -> Findings:
        """Decide what follows for the outstanding chunks.

        Args:
            claims: the worker that claimed each outstanding chunk; None where there is no claim.
            alive: whether the liveness key of each of those workers exists.
            now: seconds of a monotonic clock when the check began; chunks that were offered since are left out.
            here: deliveries that need no claim, because the worker of this process has them.
        """
        findings = Findings()
        if now < self._settled_at:
            return findings
        missing = {worker for worker, is_alive in alive.items() if not is_alive}
        for delivery, holder in claims.items():
            if holder is None:
                offered = None if delivery in here else self._offered.get(delivery)
                # A chunk that was not offered belongs to a turn whose outcomes are not durable yet.
                if offered is not None and now - offered.at >= offered.wait:
                    findings.offer_again.append(delivery)
            # In two checks in a row: one late renewal of its key must not cost a worker its chunks.
            elif holder in missing and holder in self._missing:
                findings.lost.append((delivery, holder))
        self._missing = missing
        self._offered = {
            # A chunk that was offered while the check ran is not in `claims`, and must not be forgotten.
            delivery: known
            for delivery, known in self._offered.items()
            if delivery in claims or known.at >= now
        }
        return findings

    def store_was_away(self, now: float) -> None:
        """Suspend the decisions until workers have had the time to renew their liveness keys and claims."""
        self._missing = set()
        self._settled_at = now + self._settle
