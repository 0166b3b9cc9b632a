"""The agent of random workloads: it does what the `inputs` of its task say, so it is the same on every worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from anabranch.core.errors import RetryLater
from anabranch.testing.simulator.workload import answer

LATER_SECONDS = 1.5
"""Seconds for which a member has all of its key wait."""


class SimulatedFailure(Exception):
    """Raised by a failing member."""


def make_agent(started: Callable[[Any], None], kill: Callable[[], None]) -> Callable[[Any], Any]:
    """The agent of random workloads. `started` is called with each task; `kill` kills the agent's process."""

    async def work(task: Any) -> Any:
        started(task)
        inputs = task.inputs
        if "usd" in inputs:
            task.spend(usd=inputs["usd"])
        index = task.index if task.index is not None else 0
        if index in inputs.get("kills", ()):
            # `kill` stops the process at the end of this step; the sleep keeps the agent from returning before.
            kill()
            await asyncio.sleep(1)
        seconds = inputs.get("seconds", 0)
        if seconds:
            # Members of a chunk end one after another: a report has some of them, and its repetition could count.
            await asyncio.sleep(seconds * (1 + index % 3))
        if index in inputs.get("later", ()) and task.attempt == 1:
            raise RetryLater(LATER_SECONDS, scope="key")
        if task.iteration and task.iteration[-1] in inputs.get("fails_in", ()):
            raise SimulatedFailure(f"iteration {task.iteration}")
        if index in inputs.get("fails", ()) or task.attempt <= inputs.get("flaky", {}).get(str(index), 0):
            raise SimulatedFailure(f"{index}")
        return answer(task.task_name, task.index, inputs, task.context)

    return work
