"""Whose runs are, asked of the store once for each run and remembered for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from anabranch.runtime.reading.run_records import load_run_records
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
        records = await load_run_records(self._client.store, self._client.names, unknown)
        for run_id, record in zip(unknown, records, strict=True):
            if record is not None:
                found[run_id] = record.project
                self.note(run_id, record.project)
        return found
