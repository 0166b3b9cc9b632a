"""Measures what attempts of members use: processor time of a thread, and the peak of the process's memory."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from anabranch.ports import Clock

SAMPLE_SECONDS = 0.02
"""Interval of the samples of memory, while members run."""
MAX_SAMPLES = 10_000
"""Samples that are kept: of each, that no later sample is higher."""
_STATM = Path("/proc/self/statm")


class ProcessMeter:
    """Measures for one worker of this process. Thread-safe.

    Its thread samples the resident memory while `is_active`, and sleeps otherwise. A system without `/proc` has no
    numbers of memory.
    """

    cpu = staticmethod(time.thread_time)
    """Seconds of processor time of the calling thread. The function itself, which saves a call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._peaks: list[int] = []
        self._is_active: Callable[[], bool] = bool
        self._has_work = threading.Event()
        self._is_stopping = False
        self.is_idle = True
        """True while the thread waits for `wake`."""

    def start(self, is_active: Callable[[], bool]) -> None:
        """Start the thread. `is_active` is called in it: true while members run."""
        if self._page and _STATM.exists():
            self._is_active = is_active
            threading.Thread(target=self._sample_while_active, name="memory sampler", daemon=True).start()

    def stop(self) -> None:
        """End the thread, without waiting for it."""
        self._is_stopping = True
        self._has_work.set()

    def wake(self) -> None:
        """Members begin: sample until they have ended."""
        self.is_idle = False
        self._has_work.set()

    def peak_since(self, began: float) -> int:
        """The highest resident memory of the process that was seen since `began`, by the monotonic clock, in
        bytes; 0 if it is not known."""
        self._sample()
        with self._lock:
            # The peaks fall from left to right, so the first one that is not before `began` is the highest.
            at = bisect_left(self._times, began)
            return self._peaks[at] if at < len(self._peaks) else 0

    def _sample_while_active(self) -> None:
        while not self._is_stopping:
            self._has_work.wait()
            self._has_work.clear()
            while self._is_active() and not self._is_stopping:
                self._sample()
                # Set by `stop` and `wake` only.
                self._has_work.wait(SAMPLE_SECONDS)
            self.is_idle = True

    def _sample(self) -> None:
        try:
            pages = int(_STATM.read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return
        now, resident = self._clock.monotonic(), pages * self._page
        with self._lock:
            while self._peaks and self._peaks[-1] <= resident:
                self._peaks.pop()
                self._times.pop()
            self._peaks.append(resident)
            self._times.append(now)
            if len(self._times) > MAX_SAMPLES:
                del self._times[0], self._peaks[0]
