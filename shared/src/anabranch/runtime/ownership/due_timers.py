"""Appends the timers of a partition to its log when they are due.

A due timer is a record like any other, so a record that is on the log before it wins. One timer of the event loop
for each partition waits for the earliest due time; the handler then derives from the state what is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from anabranch.core.errors import AnabranchError
from anabranch.ports import EventLog, Outgoing
from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.process.supervision import SupervisedTasks
from anabranch.runtime.until_available import until_available

S = TypeVar("S")

MIN_DELAY, MAX_DELAY = 0.02, 1.0
"""Seconds before a due timer is appended. If the broker's clock is behind this machine's, the record's timestamp
is too early and the timer has no effect: it is appended again after twice the delay."""
RETRY_SECONDS = 2.0


class DueTimers(Generic[S]):
    """The timers of one owner. `tasks` run the appends."""

    def __init__(
        self,
        handler: PartitionHandler[S],
        eventlog: EventLog,
        clock: LogClock,
        tasks: SupervisedTasks,
    ) -> None:
        self._handler = handler
        self._log = eventlog
        self._clock = clock
        self._tasks = tasks

    def arm(self, owned: OwnedPartition[S]) -> None:
        """Wait for the earliest due time of the state, in place of the one before."""
        due = self._handler.next_due(owned.state) if owned.is_caught_up and not owned.closing else None
        if due is None:
            self._disarm(owned)
            return
        # A timer is only moved forward: if each turn postponed it, it would never fire in a busy partition.
        if owned.timer is not None and owned.timer_armed_for <= due:
            return
        self._disarm(owned)
        loop = asyncio.get_running_loop()
        at = loop.time() + max(self._min_delay(owned, due), due - self._clock.now())
        owned.timer = loop.call_at(at, self._fired, owned, due)
        owned.timer_armed_for = due

    def _disarm(self, owned: OwnedPartition[S]) -> None:
        if owned.timer is not None:
            owned.timer.cancel()
            owned.timer = None

    def _min_delay(self, owned: OwnedPartition[S], due: float) -> float:
        tries = owned.timer_tries if due == owned.timer_due else 0
        # The exponent is bounded because a float overflows at 2.0 ** 1024.
        return min(MIN_DELAY * 2.0 ** min(tries, 16), MAX_DELAY)

    def _fired(self, owned: OwnedPartition[S], due: float) -> None:
        owned.timer = None
        owned.timer_tries = owned.timer_tries + 1 if due == owned.timer_due else 0
        owned.timer_due = due
        if not owned.closing:
            self._tasks.spawn(self._append(owned), f"timer of {self._handler.topic}/{owned.number}")

    async def _append(self, owned: OwnedPartition[S]) -> None:
        async def append() -> Sequence[Outgoing]:
            # Computed at each attempt: a record that was applied during an outage may have settled the timer.
            records = [] if owned.closing else self._handler.due_records(owned.state, self._clock.now())
            await self._log.publish(records)
            return records

        what = f"append a timer of {self._handler.topic}/{owned.number}"
        records = await until_available(append, what, delay=RETRY_SECONDS, retry_on=(AnabranchError,))
        # Without a record no turn follows, and only turns arm the timer.
        if not records:
            self.arm(owned)
