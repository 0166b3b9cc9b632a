"""The `RunIndex` over the run views in the store: scans the sorted set of recent runs, the latest first."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import orjson

from anabranch.core.names import Names
from anabranch.core.run_filter import RunFilter, list_order
from anabranch.core.wire.run_view import RunView
from anabranch.ports import RunPage, StateStore
from anabranch.runtime.reading.views import list_views

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
                if wanted.matches(view):
                    found.append(view)
                    if len(found) == limit:
                        return RunPage(found, str(position))
            offset += SCAN_BATCH
            scanned += SCAN_BATCH
        return RunPage(found, str(position))
