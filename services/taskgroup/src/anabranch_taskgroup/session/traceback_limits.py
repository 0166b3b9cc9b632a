"""Limits the tracebacks that the owner of a session keeps, so that a million failed members fit into memory. Pure.

A failure beyond the limit is kept without its traceback. Tracebacks with the same frames have a limit of their
own, so that the first kind of failure of a task does not use up the budget of the second.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

MAX_TRACEBACKS = 100
MAX_ALIKE = 10
MAX_BYTES = 250_000
"""Tracebacks of the failed members of one task: their number, the number with the same frames, and their bytes."""
MAX_RETRY_TRACEBACKS = 20
MAX_RETRY_BYTES = 50_000
"""The same for attempts that are retried, whose tracebacks only events have."""
MAX_RUN_BYTES = 4_000_000
"""Bytes of the tracebacks of all failed members of one run, at most."""

_FRAME = 'File "'


@dataclass(slots=True)
class TracebackBudget:
    """The budget for the tracebacks of one task."""

    left: int = MAX_TRACEBACKS
    bytes_left: int = MAX_BYTES
    alike: dict[bytes, int] = field(default_factory=dict)

    def admit(self, traceback: str | None, max_bytes: int = MAX_RUN_BYTES) -> bool:
        """Return True if the budget allows the traceback, and use it up. `max_bytes` are what the run has left."""
        if traceback is None or self.left <= 0:
            return False
        size, frames = traceback_size(traceback), frames_digest(traceback)
        known = self.alike.get(frames, 0)
        # Nothing is charged before all limits are checked.
        if size > min(self.bytes_left, max_bytes) or known >= MAX_ALIKE:
            return False
        self.left -= 1
        self.bytes_left -= size
        self.alike[frames] = known + 1
        return True

    def release(self, traceback: str) -> None:
        """Return an admitted traceback to the budget: its member runs again."""
        self.left += 1
        self.bytes_left += traceback_size(traceback)
        self.alike[frames_digest(traceback)] -= 1


def retry_budget() -> TracebackBudget:
    """The budget for the tracebacks of a task's attempts that are retried."""
    return TracebackBudget(MAX_RETRY_TRACEBACKS, MAX_RETRY_BYTES)


def traceback_size(traceback: str) -> int:
    """Bytes of a traceback in UTF-8."""
    return len(traceback.encode())


def frames_digest(traceback: str) -> bytes:
    """A digest that tracebacks through the same lines of code have in common, whatever their messages are."""
    # Python indents the frames of exception groups with spaces and bars.
    frames = "\n".join(line for line in traceback.splitlines() if line.lstrip(" |").startswith(_FRAME))
    return hashlib.blake2b(frames.encode(), digest_size=8).digest()
