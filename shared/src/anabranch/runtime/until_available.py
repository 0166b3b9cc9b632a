"""Repeats an action until the servers let it happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping

from anabranch.core.errors import Fenced, ServerUnavailable, StoreRefused, ValueGone

RETRY_FIRST, RETRY_MOST = 0.05, 2.0

log = logging.getLogger(__name__)


async def until_available(
    action: Callable[[], Awaitable[None]],
    what: str,
    *,
    waits: MutableMapping[int, str],
    is_closing: Callable[[], bool],
    fenced: Callable[[Fenced], Awaitable[None]],
) -> None:
    """Do `action`; where a server is away or a value is being restored, again after a pause.

    Args:
        what: who waits, for the log.
        waits: holds the reason while it waits.
        is_closing: whether nobody needs the action any more.
        fenced: awaited, before the next try, where a later owner has written.

    Raises:
        CancelledError: it is closing and the action is refused.
    """
    delay = RETRY_FIRST
    while True:
        try:
            await action()
            waits.pop(id(action), None)
            return
        except Fenced as error:
            await fenced(error)
        except (ServerUnavailable, StoreRefused, ValueGone) as error:
            log.warning("%s waits, retrying in %g s: %s", what, delay, error)
            waits[id(action)] = str(error)
            if is_closing():
                raise asyncio.CancelledError from error
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)
