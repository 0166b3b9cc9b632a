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

    def take(self, task: Task, chunk: Chunk) -> None:
        """Give a chunk. It takes slots for a while: one for each member, or one if it is known to be brief."""
        seconds, members = task.member_seconds, len(chunk.pending)
        self.members -= 1 if seconds is not None and seconds * members < BRIEF_SECONDS else members
        self.chunks -= 1
        self.between -= 1
