"""A steward that dies before or after any of its effects: no execution of a workflow is lost, none runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dying_stewards import Life, doomed_steward, steward_of
from waiting import eventually_true

from anabranch import Registry, agent
from anabranch.adapters.sql.database import Database
from anabranch.core.executions.drafts import ExecutionDraft
from anabranch.core.tasks.kinds import ExecutionStatus, TaskType
from anabranch.core.tasks.models import TaskExecution
from anabranch.embedded import embedded
from anabranch.registry import executions as registry
from anabranch.registry import running, steward
from anabranch.registry import tasks as task_registry
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.sdk.client_ports import ClientPorts
from anabranch.tasks.models import Task as NewTask

COMPLETED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.CANCELLED
MAX_EFFECTS = 18
"""More than the graph needs; the last cases show that the steward was done before."""
CANCEL_EFFECTS = 8


@dataclass
class System:
    """A system without a steward, and what its agent did."""

    stack: AsyncExitStack
    database: Database
    links: ClientPorts
    runs: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.alive = Transactions(self.database, self.links.clock, self.links.ids)

    async def graph(self, **tasks: TaskType) -> dict[str, UUID]:
        """Executions of tasks with these types, each of which depends on the one before; ids by name."""
        new = [NewTask(name=name, task_type=kind) for name, kind in tasks.items()]
        ids = [str(each.id) for each in new]
        graph = {each: ids[at - 1 : at] if at else [] for at, each in enumerate(ids)}
        drafts = {
            each: ExecutionDraft(task_id=each, workflow_params={"inputs": {"name": name}})
            for each, name in zip(ids, tasks, strict=True)
        }

        def create(tx: Transaction) -> list[TaskExecution]:
            task_registry.create(tx, new)
            return registry.schedule_graph(tx, graph, drafts)

        made = {str(each.task_id): each.id for each in await self.alive.async_write(create)}
        return {name: made[each] for name, each in zip(tasks, ids, strict=True)}

    async def found(self, ids: Collection[UUID]) -> dict[UUID, TaskExecution]:
        return await self.alive.async_read(lambda tx: tx.executions.load(ids))

    async def have_ended(self, ids: Collection[UUID]) -> bool:
        return all(each.status.has_ended for each in (await self.found(ids)).values())

    async def live(self, life: Life, ids: Collection[UUID]) -> None:
        """Let a steward die, or do everything before that."""
        dying = await doomed_steward(self.stack, self.database, self.links, life)

        async def is_over() -> bool:
            return life.ended.is_set() or await self.is_clear(ids)

        await eventually_true(is_over)
        await dying.stop()

    async def is_clear(self, ids: Collection[UUID]) -> bool:
        """True if all have ended, and nothing is left of them."""

        def has_nothing_open(tx: Transaction) -> bool:
            return not tx.executions.with_slot() and not tx.executions.outbox_size()

        return await self.have_ended(ids) and await self.alive.async_read(has_nothing_open)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (running, steward):
        monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.2)
    monkeypatch.setattr(steward, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(steward, "CHECK_SECONDS", 0.2)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    runs: Counter[str] = Counter()
    gate = asyncio.Event()

    @agent("ann", capabilities=["custom"])
    async def ann(attempt: Any) -> str:
        runs[attempt.inputs["name"]] += 1
        await gate.wait()
        return "done"

    database = Database.open(f"sqlite:///{tmp_path}/tasks.db")
    await asyncio.to_thread(database.upgrade)
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        made = await stack.enter_async_context(embedded(Registry().add(ann), store="memory"))
        yield System(stack, database, made.client.links, runs, gate)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(1, MAX_EFFECTS))
async def test_the_next_steward_goes_on_with_a_graph(system: System, last: int, is_done: bool) -> None:
    """The second execution starts no run, because no agent has its type: stewards end it by themselves."""
    ids = await system.graph(first=TaskType.CUSTOM, second=TaskType.MONITORING, third=TaskType.CUSTOM)
    system.gate.set()
    await system.live(Life(last, is_done), ids.values())

    await steward_of(system.stack, system.alive, system.links)
    await eventually_true(lambda: system.is_clear(ids.values()))

    found = await system.found(ids.values())
    assert {each.status for each in found.values()} == {COMPLETED}
    results = {name: found[id].result for name, id in ids.items()}
    assert results == {"first": "done", "second": {"name": "second"}, "third": "done"}
    assert system.runs == {"first": 1, "third": 1}


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(1, CANCEL_EFFECTS))
async def test_the_next_steward_goes_on_with_a_cancel(system: System, last: int, is_done: bool) -> None:
    """The agent waits at a gate that stays closed: only the command on the log ends it."""
    ids = await system.graph(first=TaskType.CUSTOM, second=TaskType.CUSTOM)
    before = await steward_of(system.stack, system.alive, system.links)
    await eventually_true(lambda: _has_begun(system))
    await before.stop()
    await system.alive.async_write(lambda tx: registry.cancel(tx, str(ids["first"]), "no", "ann"))
    await system.live(Life(last, is_done), ids.values())

    await steward_of(system.stack, system.alive, system.links)
    await eventually_true(lambda: system.is_clear(ids.values()))

    found = await system.found(ids.values())
    assert {each.status for each in found.values()} == {CANCELLED}
    assert found[ids["second"]].cancel_reason == f"Dependency execution {ids['first']} was cancelled"
    assert system.runs == {"first": 1}


async def _has_begun(system: System) -> bool:
    return bool(system.runs)
