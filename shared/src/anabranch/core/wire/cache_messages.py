"""Messages about the cache of results. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class CacheOrigin(Message):
    """The completed member that a cached value is from; `at` is when it completed, in seconds since the epoch."""

    run_id: str
    group: str
    task: str
    index: int | None = None
    iteration: tuple[int, ...] = ()
    at: float = 0.0


class CacheHit(Message):
    """A cached value for the member `index`."""

    index: int
    origin: CacheOrigin


class CacheLooked(Message):
    """The cache was read for the members of a chunk, before it is offered.

    Payload: for each result key of the task a JSON array of the values of `hits`, in their order.
    """

    type: Literal["cache_looked"] = "cache_looked"
    run_id: str
    group: str
    task: str
    iteration: tuple[int, ...] = ()
    """The iteration of the loops around the task."""
    chunk: int
    keys: tuple[str, ...] = ()
    """The key of each member of the chunk, in ascending order of index; empty for one that cannot be cached."""
    hits: tuple[CacheHit, ...] = ()
    """In ascending order of index."""
    warning: str | None = None
    """Why members cannot be cached."""
    admission: int | None = None
