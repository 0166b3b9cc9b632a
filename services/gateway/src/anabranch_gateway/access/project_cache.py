"""LRU cache of the projects of runs, filled from their records in the store."""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.bounded import BoundedDict
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.client import Client

CACHE_SIZE = 50_000


class ProjectCache:
    """Projects of runs by run id. A run never changes its project, so entries do not expire."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._projects: BoundedDict[str, str] = BoundedDict(CACHE_SIZE)

    async def projects(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The projects of those runs that have been admitted. Raises ServerUnavailable."""
        wanted = set(run_ids)
        found = {run_id: project for run_id in wanted if (project := self._projects.get(run_id)) is not None}
        unknown = [run_id for run_id in wanted if run_id not in found]
        if not unknown:
            return found
        records = await load_run_records(self._client.store, self._client.names, unknown)
        for run_id, record in zip(unknown, records, strict=True):
            if record is not None:
                found[run_id] = self._projects[run_id] = record.project
        return found
