"""Watchdog: detects an owner that is alive and stuck, with records to process and all servers available.

Only time in which this process runs is counted: a blocked event loop or a stopped process is not the owner's
fault. The watchdog only judges; health reports `unhealthy_reason`, and the process then ends.
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
"""Seconds between two checks whether the log holds records that were not delivered."""
MAX_POLLS = 3.0
"""At most this many times POLL_SECONDS are counted between two polls: more means that the process was stopped."""

_log = logging.getLogger("anabranch.process")


@dataclass(slots=True)
class Progress:
    """Progress of one partition.

    Attributes:
        handled: number of processed records; `following` is the offset after the last of them.
        waits: reasons for which the owner waits by design: a server is unavailable, a value is being restored. The
            partition does not count as stalled meanwhile.
        stalled_for: seconds without progress although there is work.
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
        """Marks the time in which records are being processed."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def advance(self, count: int, last: int) -> None:
        """Count `count` processed records, the last of them at offset `last`."""
        self.handled += count
        self.following = max(self.following, last + 1)

    def check(self, elapsed: float, *, unread: bool) -> None:
        """Account for `elapsed` seconds. `unread`: the log holds records that were not delivered."""
        has_work = self.busy or len(self.queue) > 0 or unread
        is_stalled = has_work and not self.waits and self.handled == self._seen
        self.stalled_for = self.stalled_for + elapsed if is_stalled else 0.0
        self._seen = self.handled


class Watchdog:
    """Polls the partitions of one owner.

    Args:
        progress: returns the progress of each owned partition.
        patience: seconds without progress, although there is work, after which the owner is stuck.
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
        self._lag_read_at = float("-inf")

    @property
    def unhealthy_reason(self) -> str | None:
        """The partition that makes no progress; None if all do."""
        for number, each in self._progress().items():
            if each.stalled_for > self._patience:
                return f"{self._topic}/{number}: records wait and none was decided for {each.stalled_for:.0f} s"
        return None

    @property
    def waiting_for(self) -> str | None:
        """What the owner waits for by design, such as an unavailable server; None if it waits for nothing."""
        found = (reason for each in self._progress().values() for reason in each.waits.values())
        return next(found, None)

    async def run(self) -> None:
        """Poll until cancelled."""
        last = self._clock.monotonic()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._read_lag()
            now = self._clock.monotonic()
            elapsed, last = min(now - last, MAX_POLLS * POLL_SECONDS), now
            for number, each in self._progress().items():
                each.check(elapsed, unread=self._ends.get(number, 0) > each.following)

    async def _read_lag(self) -> None:
        """Read the end offsets of partitions in which the group lags: records up to there have to be delivered.

        The answer is old by the time it is used, so each poll compares it with the progress made since: a record
        that was delivered a moment later is no lag.
        """
        now = self._clock.monotonic()
        if now - self._lag_read_at < LAG_SECONDS or not self._progress():
            return
        self._lag_read_at = now
        try:
            standings = await self._log.group_standing(self._group, self._topic)
        except AnabranchError as error:
            _log.debug(
                "cannot read the lag of %s, so this check finds no stalled partition: %s", self._topic, error
            )
            # Without an answer nothing counts as unread: an unavailable log is not the owner's fault.
            self._ends = {}
            return
        self._ends = {number: found.end for number, found in standings.items() if found.lag}
