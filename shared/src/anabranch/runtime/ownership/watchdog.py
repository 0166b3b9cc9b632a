"""Notices that records wait and nothing is decided although the servers are there: an owner alive and stuck.

Time counts only while this process runs: what an agent that blocks the loop, or a stopped process, costs is no
fault of the owner. It judges; what to do about it is the business of whoever reads `trouble`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field

from anabranch.core.errors import AnabranchError
from anabranch.ports import Clock, EventLog

POLL_SECONDS = 1.0
LAG_SECONDS = 15.0
"""The log is asked so often whether it holds records that never came here."""
SLOW_LOOKS = 3.0
"""Between two looks at most so many times LOOK_SECONDS are counted."""

_log = logging.getLogger("anabranch.process")


@dataclass(slots=True)
class Progress:
    """How far one partition is. `handled` counts its records, `following` is the offset after the last of them.

    `waits` are the reasons for which its owner waits by itself: a server is away, a value is being restored.
    """

    queue: Sized
    following: int = 0
    handled: int = 0
    busy: bool = False
    waits: dict[int, str] = field(default_factory=dict)
    stalled_for: float = 0.0
    _seen: int = -1

    @contextmanager
    def working(self) -> Iterator[None]:
        """Records are being handled."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def advance(self, count: int, last: int) -> None:
        """`count` records were handled, up to that at offset `last`."""
        self.handled += count
        self.following = max(self.following, last + 1)

    def check(self, elapsed: float, *, unread: bool) -> None:
        """Time has passed; `unread`: the log holds records that have not come."""
        has_work = self.busy or len(self.queue) > 0 or unread
        stands = has_work and not self.waits and self.handled == self._seen
        self.stalled_for = self.stalled_for + elapsed if stands else 0.0
        self._seen = self.handled


class Watchdog:
    """Watches the partitions of one owner.

    Args:
        progress: the partitions that are owned now.
        patience: seconds without a decision, while there is work, that count as trouble.
    """

    def __init__(
        self,
        eventlog: EventLog,
        group: str,
        topic: str,
        clock: Clock,
        progress: Callable[[], Mapping[int, Progress]],
        *,
        patience: float,
    ) -> None:
        self._log = eventlog
        self._group = group
        self._topic = topic
        self._clock = clock
        self._progress = progress
        self._patience = patience
        self._ends: Mapping[int, int] = {}
        self._asked_at = float("-inf")

    @property
    def unhealthy_reason(self) -> str | None:
        """What stands still; None where nothing does."""
        for number, each in self._progress().items():
            if each.stalled_for > self._patience:
                return f"{self._topic}/{number}: records wait and none was decided for {each.stalled_for:.0f} s"
        return None

    @property
    def waiting_for(self) -> str | None:
        """What an owner waits for by itself: a server that is away; None where none waits."""
        found = (reason for each in self._progress().values() for reason in each.waits.values())
        return next(found, None)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        last = self._clock.monotonic()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._ask()
            now = self._clock.monotonic()
            elapsed, last = min(now - last, SLOW_LOOKS * POLL_SECONDS), now
            for number, each in self._progress().items():
                each.check(elapsed, unread=self._ends.get(number, 0) > each.following)

    async def _ask(self) -> None:
        """Where the partitions end that the group is behind in: what was not handled up to there has to come.

        The answer is compared at every look, since it grows old: a record that came a moment later is no lag.
        """
        now = self._clock.monotonic()
        if now - self._asked_at < LAG_SECONDS or not self._progress():
            return
        self._asked_at = now
        try:
            standings = await self._log.group_standing(self._group, self._topic)
        except AnabranchError as error:
            _log.debug("the lag of %s is not known: %s", self._topic, error)
            self._ends = {}
            return
        self._ends = {number: found.end for number, found in standings.items() if found.lag}
