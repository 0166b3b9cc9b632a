"""How much of one turn an owner gives to the worker of its own process. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch_taskgroup.session.task_state import Chunk, Task

SMALL_TASK = 64
"""Members of a task that does not wait until a wide one has ended, at most."""
BRIEF_SECONDS = 0.1
"""A chunk that takes less than this counts as one member: its slots are free again at once."""


@dataclass(slots=True)
class LocalRoom:
    """Attributes:
    members: that may be given.
    chunks: that start at once.
    between: chunks of small tasks that start within a slice, although all slots may be in use.
    """

    members: int
    chunks: int
    between: int

    def is_for(self, task: Task) -> bool:
        """True if a chunk of a task may be given. On the log, a small task would wait behind the offers of wide
        runs."""
        return (self.members > 0 and self.chunks > 0) or (self.between > 0 and task.total <= SMALL_TASK)

    def take(self, task: Task, chunk: Chunk) -> None:
        """Give a chunk."""
        self.members -= _slots_for(task, chunk)
        self.chunks -= 1
        self.between -= 1


def _slots_for(task: Task, chunk: Chunk) -> int:
    """Slots that a chunk takes for a while: one for each member, or one if it is known to be brief."""
    seconds = task.member_seconds
    if seconds is not None and seconds * len(chunk.pending) < BRIEF_SECONDS:
        return 1
    return len(chunk.pending)
