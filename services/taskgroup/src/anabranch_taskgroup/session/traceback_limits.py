"""How many tracebacks the owner of a session keeps: a million failed members bring no million tracebacks. Pure.

A failure beyond the bound has all but its traceback. Tracebacks with the same frames count as alike, so that the
first kind of failure of a task leaves room for the second.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

KEPT = 100
KEPT_ALIKE = 10
KEPT_BYTES = 250_000
"""Tracebacks of the failed members of one task: at most so many, so many alike, and so many bytes."""
RETRIES_KEPT = 20
RETRIES_BYTES = 50_000
"""The same of attempts that are followed by another; events have these, and nothing else does."""
RUN_BYTES = 4_000_000
"""Bytes of the tracebacks of all failed members of one run."""

_FRAME = 'File "'


@dataclass(slots=True)
class TracebackBudget:
    """Room for the tracebacks of one task."""

    left: int = KEPT
    bytes_left: int = KEPT_BYTES
    alike: dict[bytes, int] = field(default_factory=dict)

    def admit(self, traceback: str | None, most_bytes: int = RUN_BYTES) -> bool:
        """Whether there is a traceback and room for it, which it takes then; `most_bytes` are left to its run."""
        if traceback is None or self.left <= 0:
            return False
        size, frames = traceback_size(traceback), frames_digest(traceback)
        known = self.alike.get(frames, 0)
        if size > min(self.bytes_left, most_bytes) or known >= KEPT_ALIKE:
            return False
        self.left -= 1
        self.bytes_left -= size
        self.alike[frames] = known + 1
        return True

    def give_back(self, traceback: str) -> None:
        """The member whose traceback was admitted runs again: what it failed with counts no longer."""
        self.left += 1
        self.bytes_left += traceback_size(traceback)
        self.alike[frames_digest(traceback)] -= 1


def room_for_retries() -> TracebackBudget:
    """Room for the tracebacks of a task's attempts that are followed by another."""
    return TracebackBudget(RETRIES_KEPT, RETRIES_BYTES)


def traceback_size(traceback: str) -> int:
    """Bytes of a traceback."""
    return len(traceback.encode())


def frames_digest(traceback: str) -> bytes:
    """What the tracebacks of failures from the same lines of code share, whatever their messages say."""
    frames = "\n".join(line for line in traceback.splitlines() if line.lstrip(" |").startswith(_FRAME))
    return hashlib.blake2b(frames.encode(), digest_size=8).digest()
