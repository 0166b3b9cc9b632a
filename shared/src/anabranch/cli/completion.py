"""Shell completion of arguments: ids of recent runs, and request files.

The shell calls it at each press of Tab, so it is quick, prints no errors, and changes nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch.core.errors import AnabranchError
from anabranch.core.visible import visible

if TYPE_CHECKING:
    from anabranch.core.wire.run_view import RunView
    from anabranch.runtime.process.settings import Settings

TIMEOUT_SECONDS = 0.7
"""Maximum time to wait for a server."""
MAX_RUNS = 30
SUFFIXES = frozenset({".json", ".yaml", ".yml"})


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Ids of recent runs that begin with `incomplete`, the latest first, each with its name and status."""
    import asyncio

    from anabranch.runtime.process.settings import Settings

    logging.disable()  # a library's warning would appear within the line that the user is typing
    try:
        return asyncio.run(asyncio.wait_for(_recent(Settings.load(), incomplete), TIMEOUT_SECONDS))
    except (AnabranchError, TimeoutError, OSError):  # an error message would appear there too
        return []
    finally:
        logging.disable(logging.NOTSET)


async def _recent(settings: Settings, incomplete: str) -> list[tuple[str, str]]:
    from anabranch.cli.backends.selection import find_gateway, open_gateway
    from anabranch.runtime.process.connections import redis_store
    from anabranch.runtime.reading.views import list_views

    if (address := await find_gateway(settings)) is not None:
        async with open_gateway(address) as gateway:
            return matching_ids(await gateway.views(MAX_RUNS), incomplete)
    store = await redis_store(settings)
    try:
        return matching_ids(await list_views(store, settings.names, MAX_RUNS), incomplete)
    finally:
        await store.close()


def matching_ids(views: Iterable[RunView], incomplete: str) -> list[tuple[str, str]]:
    """The run ids and request ids of these runs that begin with `incomplete`."""
    found = []
    for view in views:
        words = visible(f"{view.name or 'run'}, {view.status}")
        ids = (view.run_id, view.request_id or "")
        found += [(visible(each), words) for each in dict.fromkeys(ids) if each and each.startswith(incomplete)]
    return found


def request_files(incomplete: str) -> Sequence[str]:
    """Folders and request files whose path begins with `incomplete`."""
    folder, start = os.path.split(incomplete)
    try:
        entries = sorted(Path(folder or ".").iterdir())
    except OSError:
        return []
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(start)
        and (start.startswith(".") or not entry.name.startswith("."))
        and (entry.is_dir() or entry.suffix in SUFFIXES)
    ]
