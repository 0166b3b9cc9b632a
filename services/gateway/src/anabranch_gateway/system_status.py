"""The state of the installation: services with their consumer lag, and workers. Cached for two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anabranch
from anabranch.ports import Clock, Standing
from anabranch.runtime.reading.views import list_views
from anabranch.sdk.client import Client

CACHE_SECONDS = 2.0
RECENT_RUNS = 50
"""Number of recent runs whose workers are listed."""


@dataclass(slots=True)
class SystemStatus:
    """Reads the state of the installation, at most once in `CACHE_SECONDS` for all callers together."""

    client: Client
    prefix: str
    clock: Clock
    _read_at: float = float("-inf")
    _document: dict[str, Any] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def document(self) -> dict[str, Any]:
        """The document of `/v1/system`. Raises ServerUnavailable."""
        # Callers that arrive during a read wait for it and get the same document.
        async with self._lock:
            if self.clock.monotonic() - self._read_at > CACHE_SECONDS:
                self._document = await self._read()
                # After the read, so that a slow read is not out of date at once.
                self._read_at = self.clock.monotonic()
            return self._document

    async def _read(self) -> dict[str, Any]:
        names = self.client.names
        consumers = (
            ("agency", names.agency_requests, names.requests),
            ("agency", names.agency_runs, names.runs),
            ("taskgroup", names.taskgroup_groups, names.groups),
            ("taskgroup", names.taskgroup_tasks, names.tasks()),
            ("eventmanager", names.eventmanager, names.events),
        )
        standings = [
            await self.client.log.group_standing(group, topic, members=True) for _, group, topic in consumers
        ]
        rows = [
            {"service": service, **_row(group, topic, standing)}
            for (service, group, topic), standing in zip(consumers, standings, strict=True)
        ]
        services = dict.fromkeys(service for service, _, _ in consumers)
        return {
            "version": anabranch.__version__,
            "prefix": self.prefix,
            "workers": await self._workers(),
            "lag": rows,
            "services": [_service(name, rows) for name in services],
        }

    async def _workers(self) -> list[dict[str, Any]]:
        """The workers that started members of recent runs, and whether each has a fresh heartbeat."""
        views = await list_views(self.client.store, self.client.names, RECENT_RUNS)
        runs: dict[str, int] = {}
        for view in views:
            for worker in view.workers:
                runs[worker] = runs.get(worker, 0) + 1
        heartbeats = await self.client.store.get([self.client.names.worker(each) for each in runs]) if runs else []
        return [
            {"id": worker, "alive": heartbeat is not None, "runs": count}
            for (worker, count), heartbeat in zip(runs.items(), heartbeats, strict=True)
        ]


def _row(group: str, topic: str, standing: Mapping[int, Standing]) -> dict[str, Any]:
    members = {each.member for each in standing.values() if each.member is not None}
    return {
        "group": group,
        "topic": topic,
        "lag": sum(each.lag for each in standing.values()),
        "partitions": len(standing),
        "unowned": sum(each.member is None for each in standing.values()),
        "members": len(members),
    }


def _service(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    own = [row for row in rows if row["service"] == name]
    return {
        "name": name,
        "members": max(row["members"] for row in own),
        "lag": sum(row["lag"] for row in own),
        "running": all(row["members"] for row in own),
    }
