"""Reads snapshots for `top`: views and heartbeats from Redis, lags and dead letters from Kafka. Read-only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anabranch.cli.render.rates import RateMeter
from anabranch.cli.top.snapshot import DeadLetterRow, GroupRow, Snapshot, row_of
from anabranch.dead_letters.grouping import group_by_failure
from anabranch.dead_letters.reader import read_dead_letters
from anabranch.runtime.reading.views import list_views

if TYPE_CHECKING:
    from anabranch.core.names import Names
    from anabranch.core.wire.run_view import RunView
    from anabranch.sdk.client import Client


class SnapshotReader:
    """Reads snapshots. Keeps samples of rates, and reads dead letters again only if the topic has grown."""

    def __init__(self, client: Client, limit: int) -> None:
        self._client = client
        self._limit = limit
        self._rates = RateMeter()
        self._dead_letters: Sequence[DeadLetterRow] = ()
        self._dead_letters_end = -1

    async def snapshot(self) -> Snapshot:
        """Read a snapshot.

        Raises:
            ServerUnavailable: a server cannot be reached.
        """
        client = self._client
        views, groups, dead_letters = await asyncio.gather(
            list_views(client.store, client.names, self._limit), self._groups(), self._open_dead_letters()
        )
        now = client.links.clock.now()
        rows = [row_of(view, now, self._rates) for view in views]
        return Snapshot(now, rows, groups, await self._workers(views), dead_letters)

    async def _groups(self) -> list[GroupRow]:
        return await asyncio.gather(*(self._group(*pair) for pair in consumers(self._client.names)))

    async def _group(self, group: str, topic: str) -> GroupRow:
        standings = await self._client.log.group_standing(group, topic, members=True)
        readers = {standing.member for standing in standings.values() if standing.member is not None}
        prefix = self._client.names.prefix
        return GroupRow(
            group.removeprefix(prefix),
            topic.removeprefix(prefix),
            sum(standing.lag for standing in standings.values()),
            len(readers),
        )

    async def _workers(self, views: Sequence[RunView]) -> Mapping[str, bool]:
        """Workers of open runs, and live workers of ended runs."""
        # Reversed, so that of several runs of a worker the latest one counts.
        lately = {worker: not view.has_ended for view in reversed(views) for worker in view.workers}
        names = sorted(lately)
        heartbeats = (
            await self._client.store.get([self._client.names.worker(each) for each in names]) if names else []
        )
        alive = {worker: heartbeat is not None for worker, heartbeat in zip(names, heartbeats, strict=True)}
        return {worker: lives for worker, lives in alive.items() if lives or lately[worker]}

    async def _open_dead_letters(self) -> Sequence[DeadLetterRow]:
        """Open dead letters by kind of failure. The topic is read again only if its end offset has changed."""
        names = self._client.names
        standings = await self._client.log.group_standing(f"{names.prefix}dead-letters", names.dead_letters)
        end = sum(standing.end for standing in standings.values())
        if end != self._dead_letters_end:
            found = await read_dead_letters(self._client.log, names)
            kinds = group_by_failure(dead_letter for dead_letter in found if dead_letter.state == "open")
            self._dead_letters = [DeadLetterRow(kind["signature"], kind["count"], kind["error"]) for kind in kinds]
            self._dead_letters_end = end
        return self._dead_letters


def consumers(names: Names) -> list[tuple[str, str]]:
    """Consumer groups of the services, each with its topic."""
    return [
        (names.agency_requests, names.requests),
        (names.agency_runs, names.runs),
        (names.taskgroup_groups, names.groups),
        (names.taskgroup_tasks, names.tasks()),
        (names.eventmanager, names.events),
    ]
