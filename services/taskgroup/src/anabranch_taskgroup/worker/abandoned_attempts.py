"""Leaves an attempt alone that does not end although it was cancelled, and reports that."""

from __future__ import annotations

import asyncio
import logging

from anabranch.core.error_records import error_record
from anabranch.core.expansion.members import member_name
from anabranch.core.wire.messages import Offer

log = logging.getLogger(__name__)

GRACE_SECONDS = 3.0
"""How long an attempt that was cancelled may take to end. Until then it keeps its slot."""

_abandoned: set[asyncio.Task[None]] = set()
"""Keeps abandoned tasks from being collected while they still run: the loop has weak references only."""


def abandon(task: asyncio.Task[None], offer: Offer, index: int, attempt: int) -> None:
    """Leave an attempt's task alone: nobody waits for it, and its slot goes to another member."""
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
    task.cancel()  # the second one: a thread is not waited for any more
    log.warning(
        "abandoned attempt %d of member %s of %s in run %s: its agent did not end within %g s of being cancelled; "
        "it runs on without a slot, and what it returns is dropped. Let asyncio.CancelledError through in an "
        "`async def`, look at task.cancelled in a `def`",
        attempt,
        member_name(offer.task, index) if offer.expanded else offer.task,
        offer.group,
        offer.run_id,
        GRACE_SECONDS,
    )


def says_what_next(error: BaseException) -> bool:
    """Whether an error is `GiveUp` or `RetryLater`, or a group with one of them in it."""
    record = error_record(error)
    return "GiveUp" in record.names or record.retry_after is not None
