"""Agents of the cluster's checks: each call counts in Valkey, outside of the system that is checked."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import redis.asyncio

from anabranch import Task, agent


@agent("count_effect")
class CountEffect:
    """Counts when a member begins and when it ends, `inputs.seconds` later; returns the member's number."""

    def __init__(self) -> None:
        self._store = redis.asyncio.Redis.from_url(os.environ["EFFECTS_URL"])

    async def __call__(self, task: Task) -> Any:
        mark, member = task.inputs["mark"], str(task.inputs["member"])
        await self._store.hincrby(f"began:{mark}", member, 1)
        await asyncio.sleep(float(task.inputs["seconds"]))
        await self._store.hincrby(f"ended:{mark}", member, 1)
        return int(member)
