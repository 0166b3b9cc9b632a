"""The agents of `agent_endings`, each named by the number of its ending: for workers, which import modules."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from agent_endings import ENDINGS

from anabranch import Task, agent
from anabranch_taskgroup.worker import chunk_opening


def _marked(number: int) -> Any:
    handler = ENDINGS[number].agent

    async def on_the_loop(task: Task) -> Any:
        return await handler(task)

    def in_a_thread(task: Task) -> Any:
        return handler(task)

    return agent(f"ends-{number}")(on_the_loop if iscoroutinefunction(handler) else in_a_thread)


AGENTS = [_marked(number) for number in range(len(ENDINGS))]

_members_of = chunk_opening.members_of


def _breaks_for_one(*given: Any) -> Any:
    """Raises an internal error of the worker for the task of that name."""
    if given[1].task == "unopened":
        raise LookupError("a fault of the worker")
    return _members_of(*given)


chunk_opening.members_of = _breaks_for_one
