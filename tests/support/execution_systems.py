"""Execution engines over a database in memory, with agents of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from anabranch.execution import TaskExecutionEngine
from anabranch.sdk.agents import Registry
from anabranch.tasks.manager import TaskManager
from anabranch.tasks.system import TaskSystem

TIMEOUT = 60.0


@dataclass
class Executions:
    """An engine, and the manager of its tasks."""

    engine: TaskExecutionEngine
    manager: TaskManager

    def tasks(self, *names: str, **fields: Any) -> list[str]:
        """The ids of new tasks with these names."""
        return [str(self.manager.create_task(name=name, **fields).id) for name in names]

    async def ended(self, execution_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The executions when all of them have ended."""
        return await self.engine.wait_for_executions(execution_ids, timeout=TIMEOUT)


@asynccontextmanager
async def executions(agents: Registry | None = None, **arguments: Any) -> AsyncIterator[Executions]:
    """An engine in this process, by default with the agents and programs that the environment configures."""
    system = TaskSystem(agents=agents)
    async with TaskExecutionEngine(system=system, **arguments) as engine:
        yield Executions(engine, TaskManager(system))
