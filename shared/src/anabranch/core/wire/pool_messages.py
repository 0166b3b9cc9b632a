"""The message about a pool without workers. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class PoolMissing(Message):
    """A pool has no worker. Chunks of a task have waited for one since `since`, in seconds since the epoch."""

    type: Literal["pool_missing"] = "pool_missing"
    run_id: str
    group: str
    task: str
    pool: str
    since: float
    iteration: tuple[int, ...] = ()
    """The iteration of the loops around the task."""
    admission: int | None = None
