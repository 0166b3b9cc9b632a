"""An agents' module that makes the owner of sessions stick: as a listener does whose store call never returns."""

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
    """A module of agents has one."""


async def _sticky(*given: Any) -> None:
    """Sticks while the file is there that the environment names."""
    while Path(os.environ["ANABRANCH_TEST_STUCK"]).exists():
        await asyncio.sleep(0.1)
    await _prepare(*given)


GroupsHandler.prepare = _sticky  # type: ignore[method-assign]
