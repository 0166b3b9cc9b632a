"""Begins the members of chunks one chunk after another, without an asyncio task for each chunk.

Most chunks of small runs, and most members of wide ones, end without waiting for anything. So all chunks that are
ready share one task, which begins them in one `CoroutineHost`; a host is not used beyond the chunks that were
ready with it. A chunk gets a task of its own if a member of it waits or is to be retried, if its members take
longer than a slice of time, or if it has to wait for slots.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from typing import NamedTuple

from anabranch.ports import Clock
from anabranch.runtime.instrumentation.correlation import work_for
from anabranch_taskgroup.worker.executors.coroutine_host import BaseContext, CoroutineHost
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots
from anabranch_taskgroup.worker.offered import ChunkKey
from anabranch_taskgroup.worker.runner import SLICE_SECONDS, ChunkRun, LocalRetry, WaitingAttempt


class Unfinished(NamedTuple):
    """A member that has begun and has not ended, with the host that continues it. It holds its slots."""

    host: CoroutineHost
    attempt: WaitingAttempt | LocalRetry


Begun = Unfinished | BaseException | None
"""How far a chunk got: to a member that has not ended, or to what raised and is no outcome of a member. None: the
members that have begun have ended."""


class QuickStarts:
    """The queue of chunks that are ready.

    Args:
        slots: a chunk begins if there is room for a call of its agent. A member takes slots only if it does not
            end at once: until then nothing else runs.
        on_begun: called once a chunk has begun.
        on_waiting: called with a chunk that has to wait for slots, or for its claim.
        unclaimed: the chunks without a claim. They begin only while `is_confirmed`: else another owner may have
            them by now.
    """

    def __init__(
        self,
        slots: WorkerSlots,
        clock: Clock,
        on_begun: Callable[[ChunkKey, ChunkRun, Begun], None],
        on_waiting: Callable[[ChunkKey, ChunkRun], None],
        unclaimed: Container[ChunkKey],
        is_confirmed: Callable[[], bool],
    ) -> None:
        self._slots = slots
        self._clock = clock
        self._on_begun = on_begun
        self._on_waiting = on_waiting
        self._unclaimed = unclaimed
        self._is_confirmed = is_confirmed
        self._queue: deque[tuple[ChunkKey, ChunkRun]] = deque()
        self._has_some = asyncio.Event()

    def add(self, chunk: tuple[ChunkKey, ChunkRun]) -> None:
        """Begin a chunk in the next turn of the event loop."""
        if not self._queue:
            self._has_some.set()
        self._queue.append(chunk)

    async def run(self) -> None:
        """Begin the chunks of the queue, for ever."""
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            while self._queue:
                self._begin_some()
                # Members that never wait would keep the loop: heartbeats, reports and turns of the owner.
                await asyncio.sleep(0)

    def _begin_some(self) -> None:
        """Begin chunks for a slice of time."""
        loop, base, until = asyncio.get_running_loop(), BaseContext(), self._clock.monotonic() + SLICE_SECONDS
        host, is_confirmed = CoroutineHost(loop, base), self._is_confirmed()
        while self._queue:
            key, run = self._queue.popleft()
            may_begin = is_confirmed or key not in self._unclaimed
            if not (may_begin and self._slots.has_free(run.prepared.agent)):
                self._on_waiting(key, run)
                continue
            if host.is_spent:
                host.release()
                host = CoroutineHost(loop, base)
            self._on_begun(key, run, self._begin(host, base, run, until))
            if self._clock.monotonic() >= until:
                break
        host.release()

    def _begin(self, host: CoroutineHost, base: BaseContext, run: ChunkRun, until: float) -> Begun:
        # In both, because a host is compared with the context that it is a copy of.
        ids = run.prepared.trace.ids
        work_for(base.context, ids)
        work_for(host.context, ids)
        try:
            attempt = run.begin(host, base, until)
        except BaseException as error:  # noqa: BLE001  # passed on, whatever it is
            host.is_spent = True
            return error
        if attempt is None:
            return None
        self._slots.take(run.prepared.agent, run.offer.run_id)
        return Unfinished(host, attempt)
