"""The `RunIndex` over the run views in the store: scans the sorted set of recent runs, the latest first."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, replace

import orjson

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.core.run_filter import RunFilter, list_order
from anabranch.core.run_search import is_found
from anabranch.core.wire.run_view import RunView
from anabranch.ports import RunIndex, RunPage, StateStore
from anabranch.runtime.reading.views import list_views, load_views

_log = logging.getLogger(__name__)

SCAN_BATCH = 200
MAX_SCANNED = 2_000
"""Runs that one search scans. If few of them match the page is short, and its cursor continues the scan."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The last run that was scanned, and its offset in the sorted set at that time.

    Runs submitted between two pages move the others down the set. So the offset only sets where the scan starts,
    and runs that are not after the last scanned run in the order of the list are skipped: no run is returned
    twice.
    """

    offset: int = 0
    at: float | None = None
    run_id: str = ""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.offset, self.at, self.run_id])).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        """Raises ValueError if the text is not a cursor."""
        if text is None:
            return cls()
        try:
            # The padding is omitted in a cursor, because "=" has to be escaped in a URL.
            offset, at, run_id = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError) as error:  # both base64 and JSON report invalid text as ValueError
            raise _invalid(text) from error
        is_valid = isinstance(offset, int) and isinstance(at, float | int) and isinstance(run_id, str)
        if not is_valid or isinstance(offset, bool) or not 0 <= offset <= 1_000_000_000:
            raise _invalid(text)
        return cls(offset, float(at), run_id)

    def is_before(self, view: RunView) -> bool:
        """True if a run comes after the last scanned run in the order of the list."""
        return self.at is None or list_order(view) < (self.at, self.run_id)


def _invalid(text: str) -> ValueError:
    return ValueError(f"{text[:80]!r} is not a cursor of this index")


class ViewIndex:
    """See `ports.RunIndex`. Finds the runs whose views the event manager has written and that have not expired."""

    def __init__(self, store: StateStore, names: Names) -> None:
        self._store = store
        self._names = names

    async def search(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """See `ports.RunIndex`."""
        position = _Cursor.parse(cursor)
        found: list[RunView] = []
        offset, scanned = position.offset, 0
        while scanned < MAX_SCANNED:
            views = await list_views(self._store, self._names, SCAN_BATCH, offset)
            if not views:
                # Views expire before the set drops their runs, so a batch without any view is treated as the end.
                return RunPage(found, None)
            for index, view in enumerate(views):
                if not position.is_before(view):
                    continue
                position = _Cursor(offset + index, *list_order(view))
                if is_found(wanted, view):
                    found.append(view)
                    if len(found) == limit:
                        return RunPage(found, str(position))
            offset += SCAN_BATCH
            scanned += SCAN_BATCH
        return RunPage(found, str(position))


class HistoryIndex:
    """The history, with the present views of runs where the store has them, which have groups; while its database
    does not respond, the views alone. A cursor of one is invalid in the other."""

    def __init__(self, history: RunIndex, store: StateStore, names: Names) -> None:
        self._history = history
        self._store = store
        self._names = names

    async def search(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """See `ports.RunIndex`."""
        try:
            page = await self._history.search(wanted, limit, cursor)
        except (ServerUnavailable, StoreRefused) as error:
            if cursor is not None:
                raise
            _log.warning("the history cannot be searched, the list has recent runs only: %s", error)
            return await ViewIndex(self._store, self._names).search(wanted, limit)
        found = await load_views(self._store, self._names, [view.run_id for view in page.views])
        present = {view.run_id: view for view in found}
        # A run whose status has changed since may not meet the filter any more: it is shown as it was found.
        same = [
            each if (now := present.get(each.run_id, each)).status != each.status else now for each in page.views
        ]
        return replace(page, views=same)
