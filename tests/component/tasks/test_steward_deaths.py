"""A steward that dies before or after any of its effects: no execution is lost, and none runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from dying_stewards import Life, doomed_steward, steward_of
from waiting import eventually_true

from anabranch import Registry, agent
from anabranch.adapters.sql.database import Database
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import Task
from anabranch.embedded import embedded
from anabranch.ports import Outgoing
from anabranch.registry import running, steward
from anabranch.registry import tasks as registry
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.tasks.models import Task as NewTask

T = TypeVar("T")

MAX_EFFECTS = 14
"""More than the two tasks need; the last cases show that the steward was done before."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (running, steward):
        monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.2)
    monkeypatch.setattr(steward, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(steward, "CHECK_SECONDS", 0.2)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(1, MAX_EFFECTS))
async def test_the_next_steward_goes_on(last: int, is_done: bool, tmp_path: Path) -> None:
    runs: Counter[str] = Counter()

    @agent("ann", capabilities=["custom"])
    async def ann(attempt: Any) -> str:
        runs[attempt.inputs["task"]["name"]] += 1
        return "done"

    database = Database.open(f"sqlite:///{tmp_path}/tasks.db")
    await asyncio.to_thread(database.upgrade)
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        system = await stack.enter_async_context(embedded(Registry().add(ann), store="memory"))
        links = system.client.links
        alive = Transactions(database, links.clock, links.ids)
        first, second = NewTask(name="first"), NewTask(name="second")
        second.add_dependency(first.id)

        def create(tx: Transaction) -> None:
            registry.create(tx, [first, second])
            registry.execute(tx, first.id)

        await alive.async_write(create)
        life = Life(last, is_done)
        dying = await doomed_steward(stack, database, links, life)
        await _either(life, alive, second)
        await dying.stop()

        await steward_of(stack, alive, links)
        await eventually_true(lambda: _has_ended(alive, second))

        tasks = await alive.async_read(lambda tx: tx.tasks.load([first.id, second.id]))
        assert {each.status for each in tasks.values()} == {TaskStatus.COMPLETED}
        assert {each.result for each in tasks.values()} == {"done"}
        assert {each.execution_count for each in tasks.values()} == {1}
        assert runs == {"first": 1, "second": 1}
        await eventually_true(lambda: _has_nothing_open(alive))


async def _either(life: Life, alive: Transactions, last: Task) -> None:
    """Return when the steward is dead, or has done everything before that."""

    async def is_over() -> bool:
        return life.ended.is_set() or await _has_ended(alive, last)

    await eventually_true(is_over)


async def _has_ended(alive: Transactions, task: Task) -> bool:
    found = await alive.async_read(lambda tx: registry.get(tx, task.id))
    return found.has_ended


async def _has_nothing_open(alive: Transactions) -> bool:
    def is_clear(tx: Transaction) -> bool:
        return not tx.executions.with_slot() and not tx.executions.outbox_size()

    return await alive.async_read(is_clear)


async def test_a_request_that_the_log_lost_is_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steward, "LOST_SECONDS", 0.1)
    runs: Counter[str] = Counter()

    @agent("ann", capabilities=["custom"])
    async def ann(attempt: Any) -> None:
        runs[attempt.inputs["task"]["name"]] += 1

    class Forgetful:
        def __init__(self, log: Any) -> None:
            self._log = log
            self.forgotten = 0

        async def publish(self, records: Sequence[Outgoing]) -> None:
            if not self.forgotten:
                self.forgotten += 1
                return
            await self._log.publish(records)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

    database = Database.open(f"sqlite:///{tmp_path}/tasks.db")
    await asyncio.to_thread(database.upgrade)
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        system = await stack.enter_async_context(embedded(Registry().add(ann), store="memory"))
        links = system.client.links
        alive = Transactions(database, links.clock, links.ids)
        task = NewTask(name="t")

        def create(tx: Transaction) -> None:
            registry.create(tx, [task])
            registry.execute(tx, task.id)

        await alive.async_write(create)
        log: Any = Forgetful(links.log)
        await steward_of(stack, alive, replace(links, log=log))
        await eventually_true(lambda: _has_ended(alive, task))

    assert (runs, log.forgotten) == ({"t": 1}, 1)
