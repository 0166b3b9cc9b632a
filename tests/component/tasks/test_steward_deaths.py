"""A steward that dies before or after any of its effects: no execution is lost, and none runs twice.

A dead process does nothing any more: whatever it would do next waits for ever, and the next steward goes on with
what the database and the log have.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from waiting import eventually_true

from anabranch import Registry, agent
from anabranch.adapters.sql.database import Database
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import Task
from anabranch.embedded import embedded
from anabranch.ports import Outgoing
from anabranch.registry import running, steward
from anabranch.registry import tasks as registry
from anabranch.registry.steward import Steward
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.supervision import Supervisor
from anabranch.sdk.client_ports import ClientPorts
from anabranch.tasks.models import Task as NewTask

T = TypeVar("T")

MAX_EFFECTS = 14
"""More than the two tasks need; the last cases show that the steward was done before."""


class _Life:
    """Counts the effects of a steward, and ends it before or after one of them."""

    def __init__(self, last: int, is_done: bool) -> None:
        self._last = last
        self._is_done = is_done
        self._count = 0
        self.ended = asyncio.Event()

    async def spend(self, effect: Callable[[], Any]) -> Any:
        self._count += 1
        if self.ended.is_set() or (self._count == self._last and not self._is_done):
            await self._die()
        result = await effect()
        if self._count >= self._last:
            await self._die()
        return result

    async def _die(self) -> None:
        self.ended.set()
        await asyncio.Event().wait()


class _Doomed(Transactions):
    """Transactions of a process that dies."""

    def __init__(self, database: Database, life: _Life) -> None:
        clock = SystemClock()
        super().__init__(database, clock, SystemIds(clock))
        self._life = life

    async def async_write(self, work: Callable[[Transaction], T]) -> T:
        found: T = await self._life.spend(lambda: super(_Doomed, self).async_write(work))
        return found


class _DoomedLog:
    """The log of a process that dies. Reading changes nothing."""

    def __init__(self, log: Any, life: _Life) -> None:
        self._log = log
        self._life = life

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self._life.spend(lambda: self._log.publish(records))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


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
        life = _Life(last, is_done)
        dying = await _steward(stack, _Doomed(database, life), replace(links, log=_DoomedLog(links.log, life)))
        await _either(life, alive, second)
        await dying.stop()

        await _steward(stack, alive, links)
        await eventually_true(lambda: _has_ended(alive, second))

        tasks = await alive.async_read(lambda tx: tx.tasks.load([first.id, second.id]))
        assert {each.status for each in tasks.values()} == {TaskStatus.COMPLETED}
        assert {each.result for each in tasks.values()} == {"done"}
        assert {each.execution_count for each in tasks.values()} == {1}
        assert runs == {"first": 1, "second": 1}
        await eventually_true(lambda: _has_nothing_open(alive))


async def _steward(stack: AsyncExitStack, transactions: Transactions, links: ClientPorts) -> Steward:
    supervisor = Supervisor()
    stack.push_async_callback(supervisor.close)
    made = Steward(transactions, links, supervisor, 10, 10)
    stack.push_async_callback(made.stop)
    await made.start()
    return made


async def _either(life: _Life, alive: Transactions, last: Task) -> None:
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
        await _steward(stack, alive, replace(links, log=log))
        await eventually_true(lambda: _has_ended(alive, task))

    assert (runs, log.forgotten) == ({"t": 1}, 1)
