"""Agents of the system tests: they record each call in a file, which stands for a user's side effect."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from anabranch import GiveUp, Task, agent


def _note(task: Task, what: str | None = None) -> None:
    """One short line, appended in one write, so that several processes can share the file."""
    with Path(os.environ["ANABRANCH_TEST_TRACE"]).open("a") as trace:
        trace.write(f"{task.run_id} {what or task.name} {os.getpid()}\n")


@agent("deadly")
async def deadly(task: Task) -> Any:
    """Kills its process if `inputs` names a killer; otherwise returns `inputs`."""
    _note(task)
    if task.inputs == "killer":
        os._exit(137)
    await asyncio.sleep(0.01)
    return task.inputs


@agent("traced")
async def traced(task: Task) -> Any:
    """Waits `inputs.seconds`, then returns `inputs.value`."""
    _note(task)
    await asyncio.sleep(task.inputs.get("seconds", 0))
    return task.inputs["value"]


@agent("effect")
async def effect(task: Task) -> Any:
    """Notes its idempotency key before and after `inputs.seconds`, then returns `inputs.value`.

    Waits until the file `inputs.gate` exists. Fails if the file `inputs.until` does not; then only its beginning
    is noted.
    """
    _note_effect(task, "began")
    await asyncio.sleep(task.inputs.get("seconds", 0))
    while (gate := task.inputs.get("gate")) and not Path(gate).exists():
        await asyncio.sleep(0.02)
    if (needed := task.inputs.get("until")) and not Path(needed).exists():
        raise GiveUp(f"{needed} is not there yet")
    _note_effect(task, "ended")
    return task.inputs.get("value")


def _note_effect(task: Task, what: str) -> None:
    about = {"mark": task.inputs["mark"], "key": task.idempotency_key, "pid": os.getpid()}
    note = {**about, "what": what, "at": time.time()}
    with Path(os.environ["ANABRANCH_TEST_TRACE"]).with_name("effects.jsonl").open("a") as trace:
        trace.write(json.dumps(note) + "\n")


@agent("repaired")
def repaired(task: Task) -> Any:
    """Fails until the file that `inputs.until` names exists; then returns `inputs.value`."""
    _note(task)
    if not Path(task.inputs["until"]).exists():
        raise GiveUp(f"{task.inputs['until']} is not there yet")
    return task.inputs["value"]


@agent("hangs")
async def hangs(task: Task) -> None:
    """Waits until it is cancelled."""
    _note(task, "began")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        _note(task, "stopped")
        raise


@agent("spins")
def spins(task: Task) -> None:
    """The same in a thread, which checks `task.cancelled`."""
    _note(task, "began")
    for _ in range(60_000):
        if task.cancelled:
            _note(task, "stopped")
            return
        time.sleep(0.01)


@agent("pays", version="1")
async def pays(task: Task) -> Any:
    """Spends `inputs.usd` in `inputs.seconds`, then returns the member's index."""
    _note(task)
    task.spend(usd=task.inputs["usd"], tokens=1)
    await asyncio.sleep(task.inputs.get("seconds", 0))
    return task.index


@agent("provider", breaker={"failures": 3, "window": "1m", "cooldown": "2s"})
async def provider(task: Task) -> Any:
    """Fails until the file that `inputs.until` names exists. Its breaker stops calls meanwhile."""
    _note_effect(task, "began")
    await asyncio.sleep(0.05)
    if not Path(task.inputs["until"]).exists():
        _note_effect(task, "failed")
        raise ConnectionError("the provider is down")
    _note_effect(task, "ended")
    return task.index
