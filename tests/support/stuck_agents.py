"""A module of agents that blocks the owner of sessions, like a listener whose store call never returns."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from anabranch import Task, agent
from anabranch_taskgroup.owner.handler import GroupsHandler

_prepare = GroupsHandler.prepare


@agent("unstuck")
async def unstuck(task: Task) -> None:
    """An agent, because a module of agents needs one."""


async def _sticky(*given: Any) -> None:
    """Blocks while the file that the environment names exists."""
    while Path(os.environ["ANABRANCH_TEST_STUCK"]).exists():
        await asyncio.sleep(0.1)
    await _prepare(*given)


GroupsHandler.prepare = _sticky  # type: ignore[method-assign]
