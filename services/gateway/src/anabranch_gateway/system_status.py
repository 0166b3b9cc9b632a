"""What the installation is made of: services, how far each is behind, workers. Asked at most every 2 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anabranch
from anabranch.ports import Clock, Standing
from anabranch.runtime.reading.views import list_views
from anabranch.sdk.client import Client

KEPT_SECONDS = 2.0
RECENT_RUNS = 50
"""Runs whose workers are shown."""


@dataclass(slots=True)
class SystemStatus:
    """What the installation is made of, asked at most every few seconds whoever looks."""

    client: Client
    prefix: str
    clock: Clock
    _at: float = float("-inf")
    _known: dict[str, Any] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def document(self) -> dict[str, Any]:
        """Raises ServerUnavailable where it cannot be found out."""
        async with self._lock:
            if self.clock.monotonic() - self._at > KEPT_SECONDS:
                self._known = await self._ask()
                self._at = self.clock.monotonic()
            return self._known

    async def _ask(self) -> dict[str, Any]:
        names = self.client.names
        followed = (
            ("agency", names.agency_requests, names.requests),
            ("agency", names.agency_runs, names.runs),
            ("taskgroup", names.taskgroup_groups, names.groups),
            ("taskgroup", names.taskgroup_tasks, names.tasks),
            ("eventmanager", names.eventmanager, names.events),
        )
        standings = [
            await self.client.log.group_standing(group, topic, members=True) for _, group, topic in followed
        ]
        rows = [
            {"service": service, **_row(group, topic, standing)}
            for (service, group, topic), standing in zip(followed, standings, strict=True)
        ]
        services = dict.fromkeys(service for service, _, _ in followed)
        return {
            "version": anabranch.__version__,
            "prefix": self.prefix,
            "workers": await self._workers(),
            "lag": rows,
            "services": [_service(name, rows) for name in services],
        }

    async def _workers(self) -> list[dict[str, Any]]:
        """The workers that lately started something, and whether they show life now."""
        views = await list_views(self.client.store, self.client.names, RECENT_RUNS)
        runs: dict[str, int] = {}
        for view in views:
            for worker in view.workers:
                runs[worker] = runs.get(worker, 0) + 1
        signs = await self.client.store.get([self.client.names.worker(each) for each in runs]) if runs else []
        return [
            {"id": worker, "alive": sign is not None, "runs": count}
            for (worker, count), sign in zip(runs.items(), signs, strict=True)
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
