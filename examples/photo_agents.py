"""Agents of photos.yaml: they take some seconds, report progress, write log lines, and sometimes fail."""

from __future__ import annotations

import asyncio
from typing import Any

from anabranch import GiveUp, Task, agent


@agent("photos")
def photos(task: Task) -> list[dict[str, Any]]:
    """Return `inputs.count` photos; one of them is broken."""
    return [{"number": number, "broken": number == 17} for number in range(1, task.inputs["count"] + 1)]


@agent("develop", retry={"strategy": "fibonacci", "delay": "200ms", "max_attempts": 4}, timeout="20s")
async def develop(task: Task) -> dict[str, Any]:
    """Develop one photo, in three steps. Every eleventh needs a second attempt."""
    photo = task.inputs["photo"]
    for step in range(3):
        await task.progress(step / 3, f"step {step + 1} of 3")
        await asyncio.sleep(0.02 + photo["number"] % 5 * 0.01)
    if photo["broken"]:
        raise GiveUp(f"photo {photo['number']} cannot be read")
    if photo["number"] % 11 == 0 and task.attempt == 1:
        task.log.warning("the bath is too cold", extra={"photo": photo["number"]})
        raise OSError("the bath is too cold")
    task.log.info("developed", extra={"photo": photo["number"]})
    return {"number": photo["number"], "attempts": task.attempt}


@agent("album")
def album(task: Task) -> dict[str, int]:
    """Count the photos, and those that needed a second attempt."""
    developed = task.context["developed"]
    return {"photos": len(developed), "second_attempts": sum(each["attempts"] > 1 for each in developed)}
