"""Retries a step of a turn until it succeeds: what an owner does while servers are away or it is fenced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from anabranch.core.errors import AnabranchError, Fenced, ValueGone
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.until_available import UNAVAILABLE, until_available

RETRY_FIRST, RETRY_MAX = 0.05, 2.0


async def apply_until_available(
    owned: OwnedPartition[Any],
    topic: str,
    action: Callable[[], Awaitable[None]],
    claim_again: Callable[[Fenced], Awaitable[None]],
) -> None:
    """Retry a step of a turn while a server is unavailable, a value is being restored, or a later epoch fences the
    owner.

    Effects may be repeated but are never left out: an owner that loses the partition meanwhile does not commit
    their position, and the next owner performs them.

    Args:
        claim_again: claims the partition after a fenced write, before the next attempt.

    Raises:
        CancelledError: the partition is being released and a server is unavailable.
    """
    waits, key = owned.progress.waits, object()

    async def attempt() -> None:
        while True:
            try:
                return await action()
            except Fenced as error:
                await claim_again(error)

    def note_wait(error: AnabranchError) -> None:
        waits[id(key)] = str(error)
        if owned.closing:
            raise asyncio.CancelledError from error

    await until_available(
        attempt,
        f"apply records of {topic}/{owned.number}",
        delay=RETRY_FIRST,
        max_delay=RETRY_MAX,
        retry_on=(*UNAVAILABLE, ValueGone),
        on_failure=note_wait,
    )
    waits.pop(id(key), None)
