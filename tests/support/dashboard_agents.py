"""Agents for tests of the dashboard: one writes log lines and may fail, one waits for a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from anabranch import Task, agent


@agent("measure")
async def measure(task: Task) -> dict[str, object]:
    """Takes `inputs.seconds`; every `inputs.broken`-th member fails."""
    number = task.index or 0
    task.log.info("asked the gauge for member %d", number)
    await task.progress(0.5, "waiting for the gauge")
    await asyncio.sleep(float(task.inputs.get("seconds", 0)))
    broken = int(task.inputs.get("broken", 0))
    if broken and number % broken == broken - 1:
        task.log.warning("no answer")
        raise ValueError(f"gauge {number} gave no reading")
    return {"gauge": number, "level": round(1 + number * 0.013, 3)}


@agent("gated")
async def gated(task: Task) -> str:
    """Ends when the file `inputs.gate` exists."""
    gate = Path(str(task.inputs["gate"]))
    while not gate.exists():
        await asyncio.sleep(0.02)
    return "open"
