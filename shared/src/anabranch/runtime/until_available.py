"""Retries an action until the servers that it needs are available."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from anabranch.core.errors import AnabranchError, ServerUnavailable, StoreRefused

T = TypeVar("T")

UNAVAILABLE = (ServerUnavailable, StoreRefused)
RETRY_SECONDS = 0.2

log = logging.getLogger(__name__)


async def until_available(
    action: Callable[[], Awaitable[T]],
    what: str,
    *,
    delay: float = RETRY_SECONDS,
    max_delay: float | None = None,
    retry_on: tuple[type[AnabranchError], ...] = UNAVAILABLE,
    on_failure: Callable[[AnabranchError], None] | None = None,
    failed: AnabranchError | None = None,
) -> T:
    """Run `action` and return its result; where a server is unavailable, pause and run it again, without a limit.

    The action may run several times, and a failed attempt may have taken effect in part.

    Args:
        what: completes the log line "cannot ..., retrying".
        delay: seconds of the first pause. Each further pause is twice as long, up to `max_delay` seconds; without
            `max_delay` all pauses are equally long.
        retry_on: the errors that are retried. All others are raised.
        on_failure: called with each error that is retried, before the pause. What it raises ends the retries.
        failed: the error of a first attempt, if the caller has made it.
    """
    while True:
        if failed is not None:
            log.warning("cannot %s, retrying in %g s: %s", what, delay, failed)
            if on_failure is not None:
                on_failure(failed)
            await asyncio.sleep(delay)
            delay = min(delay * 2, max_delay or delay)
        try:
            return await action()
        except retry_on as error:
            failed = error
