"""A thread that polls a Kafka client until it is stopped.

librdkafka delivers records and reports in `poll`. A separate thread keeps these calls out of the event loop, and a
slow event loop does not delay the client's polls, on which its group membership depends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.1
_PAUSE_AFTER_ERROR = 0.2

_log = logging.getLogger("anabranch.kafka")


class PollingThread:
    """Calls `turn` again and again, and `finish` once after `stop`. `turn` returns within about POLL_SECONDS."""

    def __init__(self, name: str, turn: Callable[[], None], finish: Callable[[], None]) -> None:
        self._turn = turn
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._ended = asyncio.Event()
        self._started = False
        self._is_free = threading.Lock()
        """Held from `hand_over` until the loop calls the function."""
        # A daemon, so that a process that ends without `stop` does not wait for it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """True after `stop`."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start polling."""
        self._thread.start()
        self._started = True

    def unhealthy_reason(self) -> str | None:
        """The reason if the thread has ended without `stop`; else None."""
        if self._started and not self._stopping.is_set() and not self._thread.is_alive():
            return f"the thread {self._thread.name}, which polls Kafka, has ended unexpectedly"
        return None

    async def stop(self) -> None:
        """Ask the thread to end, and wait until `finish` has returned."""
        self._stopping.set()
        await self._ended.wait()

    def rest(self) -> None:
        """Sleep in the thread until `stop`, in place of the polls of a client that has failed."""
        self._stopping.wait(POLL_SECONDS)

    def hand_over(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Call a function on the loop, once the loop has called the one that was handed over before; False after
        `stop`. So an idle loop is woken at once, and a busy one gets in one call what arrives meanwhile."""
        # The timeout lets `stop` end the thread.
        while not self._is_free.acquire(timeout=1.0):
            if self._stopping.is_set():
                return False
        return self.post(self._take, callback, args)

    def _take(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._is_free.release()
        callback(*args)

    def post(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Call a function on the loop, from the thread; False if the loop is closed, which ends the thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            self._stopping.set()
            return False
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - a thread that died silently would stall its partitions
                _log.exception("polling Kafka failed; the thread continues to poll")
                self._stopping.wait(_PAUSE_AFTER_ERROR)
        try:
            self._finish()
        except Exception:  # noqa: BLE001 - `stop` waits for the end of the thread
            _log.exception("closing a Kafka client failed")
        self.post(self._ended.set)
