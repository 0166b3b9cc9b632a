"""Snapshots for `top`, read through a gateway. Read-only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anabranch.cli.render.rates import RateMeter
from anabranch.cli.top.snapshot import DeadLetterRow, GroupRow, Snapshot, row_of
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.cli.backends.gateway import Gateway
    from anabranch.core.wire.run_view import RunView


class GatewaySnapshots:
    """See `backend.SnapshotSource`."""

    def __init__(self, gateway: Gateway, limit: int) -> None:
        self._gateway = gateway
        self._limit = limit
        self._rates = RateMeter()
        self._clock = SystemClock()

    async def snapshot(self) -> Snapshot:
        views, system, dead_letters = await asyncio.gather(
            self._gateway.views(self._limit),
            self._gateway.system(),
            self._gateway.dead_letter_groups(run=None, signature=None, every=False),
        )
        now = self._clock.now()
        return Snapshot(
            now,
            [row_of(view, now, self._rates) for view in views],
            [_group(row, system["prefix"]) for row in system["lag"]],
            _workers(views, system),
            [DeadLetterRow(kind["signature"], kind["count"], kind["error"]) for kind in dead_letters.groups],
        )


def _group(row: Mapping[str, Any], prefix: str) -> GroupRow:
    group, topic = (row[name].removeprefix(prefix) for name in ("group", "topic"))
    return GroupRow(group, topic, row["lag"], row["members"])


def _workers(views: Sequence[RunView], system: Mapping[str, Any]) -> Mapping[str, bool]:
    """Workers of open runs, and other workers with a fresh heartbeat."""
    alive = {worker["id"]: bool(worker["alive"]) for worker in system["workers"]}
    # Reversed, so that of several runs of a worker the latest one counts.
    lately = {worker: not view.has_ended for view in reversed(views) for worker in view.workers}
    found = {worker: alive.get(worker, False) for worker in sorted(lately)}
    return {worker: lives for worker, lives in found.items() if lives or lately[worker]}
