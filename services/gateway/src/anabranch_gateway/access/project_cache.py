"""Whose runs are, asked of the store once for each run and remembered for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import orjson

from anabranch.runtime.reading.views import project_of
from anabranch.sdk.client import Client

KEPT = 50_000


class RunProjects:
    """Projects of runs by run id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[str, str] = OrderedDict()

    def note(self, run_id: str, project: str) -> None:
        """Somebody has seen whose a run is."""
        self._kept[run_id] = project
        self._kept.move_to_end(run_id)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def of(self, run_ids: Iterable[str]) -> dict[str, str]:
        """Those that are known. Raises ServerUnavailable."""
        wanted = set(run_ids)
        unknown = [run_id for run_id in wanted if run_id not in self._kept]
        found = {run_id: self._kept[run_id] for run_id in wanted if run_id in self._kept}
        if not unknown:
            return found
        names = self._client.names
        stored = await self._client.store.get([names.tombstone(run_id) for run_id in unknown])
        for run_id, value in zip(unknown, stored, strict=True):
            if value is not None:
                found[run_id] = project_of(orjson.loads(value)["accepted"])
                self.note(run_id, found[run_id])
        return found
