"""Bounded queue of messages on their way to a server: sent in order and in batches, retried while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from anabranch.runtime.until_available import until_available

T = TypeVar("T")

log = logging.getLogger(__name__)


class OutboundQueue(Generic[T]):
    """Messages that wait for `send`, oldest first.

    A batch leaves the queue once `send` has returned. If `send` fails, the batch is sent again, so a receiver may
    get messages twice, and never gets a message before an earlier one.

    Args:
        what: names the messages in log lines.
        send: sends a batch.
        limit: total weight above which the queue is full.
        batch: maximum messages of a batch.
        delay: seconds between two attempts.
        overflow: what happens to a message that is put into a full queue. "drop oldest" and "drop newest" count
            the lost messages; "keep" is for senders that wait for `wait_for_space` themselves.
        weigh: the weight of a message; by default each counts as 1.
    """

    def __init__(
        self,
        what: str,
        send: Callable[[Sequence[T]], Awaitable[Any]],
        *,
        limit: int,
        batch: int,
        delay: float,
        overflow: Literal["drop oldest", "drop newest", "keep"],
        weigh: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._what = what
        self._send = send
        self._limit = limit
        self._batch = batch
        self._delay = delay
        self._overflow = overflow
        self._weigh = weigh
        self._queued: deque[T] = deque()
        self._weight = 0
        self._put = self._sent = 0
        self._dropped = 0
        self._has_messages = asyncio.Event()
        self._progress = asyncio.Event()
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def is_full(self) -> bool:
        """True if the queued messages weigh at least `limit`."""
        return self._weight >= self._limit

    def put(self, message: T) -> None:
        """Queue one message."""
        is_full = self._weight >= self._limit
        if is_full and self._overflow == "drop newest":
            self._dropped += 1
            return
        # `_queued` may be empty although the queue is full: the weight includes the batch that is being sent.
        if is_full and self._overflow == "drop oldest" and self._queued:
            self._weight -= self._weigh(self._queued.popleft())
            # A dropped message counts as sent, otherwise `wait_sent` would wait for it forever.
            self._sent += 1
            self._dropped += 1
        # Behind others it is sent with them, or `run` has been woken for them.
        if not self._queued:
            self._has_messages.set()
        self._queued.append(message)
        self._weight += self._weigh(message)
        self._put += 1

    def put_all(self, messages: Iterable[T]) -> None:
        """Queue messages in order."""
        for message in messages:
            self.put(message)

    async def wait_sent(self) -> None:
        """Return once all messages that were put before this call have been sent, or `run` was cancelled."""
        put = self._put
        await self._wait(lambda: self._sent >= put)

    async def wait_for_space(self) -> None:
        """Return once the queue is not full, or `run` was cancelled."""
        if self._weight >= self._limit:
            await self._wait(lambda: not self.is_full)

    async def _wait(self, is_over: Callable[[], bool]) -> None:
        while not is_over() and not self._is_stopped:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Send messages until cancelled."""
        try:
            while True:
                await self._has_messages.wait()
                await until_available(self.flush, f"send {self._what}", delay=self._delay)
        finally:
            # Callers of `wait_sent` and `wait_for_space` would otherwise wait for sends that never happen.
            self._is_stopped = True
            self._progress.set()

    async def flush(self) -> None:
        """Send all queued messages. Raises what `send` raises; unsent messages then stay queued."""
        # Cleared before the sends: a message that is put during a send sets it again.
        self._has_messages.clear()
        while self._queued:
            batch = list(islice(self._queued, self._batch))
            # The batch leaves the queue before it is sent: a `put` meanwhile must not drop one of its messages as
            # the oldest.
            for _ in batch:
                self._queued.popleft()
            try:
                await self._send(batch)
            # A cancelled send, too: whether the server has the batch is unknown, so it is sent again.
            except BaseException:
                self._queued.extendleft(reversed(batch))
                self._has_messages.set()
                raise
            self._weight -= sum(map(self._weigh, batch))
            self._sent += len(batch)
            self._progress.set()
        if self._dropped:
            log.error("dropped %d %s: the server was unavailable for too long", self._dropped, self._what)
            self._dropped = 0
