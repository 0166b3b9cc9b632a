"""Rate limits for audit records of refused calls, per source address and in total. Pure.

Any client that reaches the port can cause refusals without end. Beyond the limits refused calls are only counted,
and a summary record has their number, so that the topic stays readable and small.
"""

from __future__ import annotations

from collections import Counter

from anabranch.core.bounded import BoundedDict
from anabranch.core.token_bucket import TokenBucket

SOURCE_BURST, SOURCE_RATE = 20.0, 0.2
"""Burst and rate per second for one source address."""
BURST, RATE = 500.0, 10.0
"""Burst and rate per second for all source addresses together."""
MAX_SOURCES = 10_000
NAMED_SOURCES = 10
"""Number of source addresses in a summary, those with the most calls first."""


class RefusalLimits:
    """See the module. Memory is bounded: of too many source addresses the least recently seen are evicted."""

    def __init__(self) -> None:
        self._total = TokenBucket(BURST, RATE)
        self._sources: BoundedDict[str, TokenBucket] = BoundedDict(MAX_SOURCES)
        self._omitted: Counter[str] = Counter()
        self._omitted_others = 0

    @property
    def has_omitted(self) -> bool:
        """True if a summary is due."""
        return bool(self._omitted) or self._omitted_others > 0

    def admit(self, source: str, now: float) -> bool:
        """True if a refused call gets its own audit record; otherwise it is counted for the summary."""
        bucket = self._bucket(source)
        # Asked first and in any case, because a bucket is refilled only when it is asked.
        has_token = bucket.has_token(now)
        if self._total.has_token(now) and has_token:
            bucket.take()
            self._total.take()
            return True
        if source in self._omitted or len(self._omitted) < MAX_SOURCES:
            self._omitted[source] += 1
        else:
            self._omitted_others += 1
        return False

    def summary(self) -> str:
        """Summary of the calls omitted since the last summary; resets the counts."""
        total = self._omitted.total() + self._omitted_others
        named = self._omitted.most_common(NAMED_SOURCES)
        sources = ", ".join(f"{count:,} from {source}" for source, count in named)
        more = total - sum(count for _, count in named)
        self._omitted.clear()
        self._omitted_others = 0
        return f"{total:,} refused calls were not recorded one by one: {sources}" + (
            f", {more:,} from others" if more else ""
        )

    def _bucket(self, source: str) -> TokenBucket:
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = self._sources[source] = TokenBucket(SOURCE_BURST, SOURCE_RATE)
        return bucket
