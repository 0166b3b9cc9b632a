"""Agents for tests of limits: they return large or deep values, or wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

from anabranch import Task, agent


@agent("items")
def items(task: Task) -> Any:
    """A list of `inputs.count` texts of `inputs.size` characters; with `inputs.random` they do not compress
    well."""
    count, size = task.inputs["count"], task.inputs["size"]
    dice = Random(size)
    if task.inputs.get("random"):
        return [dice.randbytes(size // 2).hex() for _ in range(count)]
    return [f"{number:06d}" + "x" * (size - 6) for number in range(count)]


@agent("length")
def length(task: Task) -> int:
    """The length of `inputs`."""
    return len(task.inputs)


@agent("keys")
def keys(task: Task) -> dict[str, Any]:
    """An object with `inputs.count` keys `<prefix>0`, ..., each with a text of `inputs.size` characters."""
    names = (f"{task.inputs['prefix']}{number}" for number in range(task.inputs["count"]))
    return dict.fromkeys(names, "x" * task.inputs["size"])


@agent("nested")
def nested(task: Task) -> Any:
    """Arrays nested `inputs` levels deep."""
    value: Any = []
    for _ in range(task.inputs - 1):
        value = [value]
    return value


@agent("waits")
async def waits(task: Task) -> Any:
    """Waits until the file `inputs.until` exists, then returns `inputs.value`."""
    while not Path(task.inputs["until"]).exists():
        await asyncio.sleep(0.05)
    return task.inputs["value"]
