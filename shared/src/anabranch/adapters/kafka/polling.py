"""A thread that polls a Kafka client until it is told to stop, and says so on the loop.

librdkafka hands over what it has in `poll`; a thread of its own keeps that out of the event loop, and keeps
the loop's slowness out of the client.
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
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()
        self._started = True

    def unhealthy_reason(self) -> str | None:
        """That the thread has ended although nobody asked it to; None otherwise."""
        if self._started and not self._stopping.is_set() and not self._thread.is_alive():
            return f"the thread {self._thread.name} that polls Kafka has ended"
        return None

    async def stop(self) -> None:
        """Ask the thread to end, and wait until `finish` has returned."""
        self._stopping.set()
        await self._ended.wait()

    def rest(self) -> None:
        """Wait in the thread, for a client that no longer does, and not beyond `stop`."""
        self._stopping.wait(POLL_SECONDS)

    def post(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Call something on the loop, from the thread; False where the loop is closed, which ends the thread."""
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
            except Exception:  # noqa: BLE001 - a thread that dies in silence would stall its partitions
                _log.exception("polling Kafka failed; going on")
                self._stopping.wait(_PAUSE_AFTER_ERROR)
        try:
            self._finish()
        except Exception:  # noqa: BLE001 - as above: whoever waits for the end must be told
            _log.exception("closing a Kafka client failed")
        self.post(self._ended.set)
