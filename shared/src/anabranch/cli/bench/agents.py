"""An agent that returns when it ran, by its worker's clock. Loaded by `--agents anabranch.cli.bench.agents`."""

from __future__ import annotations

from anabranch.cli.bench.shapes import STAMP
from anabranch.runtime.process.clock import SystemClock
from anabranch.sdk.agents import agent
from anabranch.sdk.task import Task

_CLOCK = SystemClock()


@agent(STAMP)
async def stamp(task: Task) -> dict[str, float]:
    """Return `{"started", "ended"}`, in seconds since the epoch."""
    started = _CLOCK.now()
    return {"started": started, "ended": _CLOCK.now()}
