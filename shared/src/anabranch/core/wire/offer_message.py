"""The offer of a chunk on `tasks`, whose records have no key. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Priority
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.resources import Requires
from anabranch.core.wire.message_parts import Message, Mode, Spans, empty_object


class Offer(Message):
    """Members that any worker may claim. The offer is not ownership; the claim in the store is.

    Payload: the task document (empty if it is stored under `document_key`), then the slices of the arrays for
    these members (empty if the document has the arrays).
    """

    type: Literal["offer"] = "offer"
    run_id: str
    session_id: str
    group: str
    task: str
    agent: str
    chunk: int
    fence: int
    spans: Spans
    attempts: dict[int, int] = empty_object()
    """Number of previous attempts by index; members without one are left out."""
    retrier_attempts: dict[int, tuple[int, ...]] = empty_object()
    """Of a task with `retriers`, by index: how many previous attempts count against each of them."""
    expanded: bool = False
    concurrency: int | None = None
    """Maximum members of the task that run at once, if it has a limit."""
    document_key: str | None = None
    items_key: str | None = None
    """Key of the slices of the arrays in the store, if they are too large for the offer."""
    deadline: float
    claim_ttl: float
    mode: Mode = "fast"
    priority: Priority = DEFAULT_PRIORITY
    pool: str = DEFAULT_POOL
    fairness_key: str = DEFAULT_PROJECT
    iteration: tuple[int, ...] = ()
    """Numbers of the iterations that the members belong to, from 0, that of the outermost loop first."""
    breaker: int = 0
    """Of an agent with a breaker that was asked: failed attempts after which a worker starts no further member of
    the chunk, at least 1."""
    limited: bool = False
    """A limit that runs share was granted for this attempt of the members: each further one is made by the
    owner."""
    requires: Requires | None = None
    """What the one member of the offer requires of its worker."""
    handles: dict[int, str] = empty_object()
    """By index: the handle of work outside of workers that makes the next attempt already. It is adopted."""
    redrives: dict[int, int] = empty_object()
    """By index: how many times a member was redriven; members that never were are left out."""
    again: bool = False
    """The same delivery was offered before, and may wait in another worker."""
