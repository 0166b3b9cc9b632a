"""Stewards that die before or after any of their effects.

A dead process does nothing any more: whatever it would do next waits for ever, and the next steward goes on with
what the database and the log have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

from anabranch.adapters.sql.database import Database
from anabranch.ports import Outgoing
from anabranch.registry.steward import Steward
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.supervision import Supervisor
from anabranch.sdk.client_ports import ClientPorts

T = TypeVar("T")


class Life:
    """Counts the effects of a steward, and ends it before or after one of them.

    Attributes:
        ended: set when the steward is dead.
    """

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

    def __init__(self, database: Database, life: Life) -> None:
        clock = SystemClock()
        super().__init__(database, clock, SystemIds(clock))
        self._life = life

    async def async_write(self, work: Callable[[Transaction], T]) -> T:
        found: T = await self._life.spend(lambda: super(_Doomed, self).async_write(work))
        return found


class _DoomedLog:
    """The log of a process that dies. Reading changes nothing."""

    def __init__(self, log: Any, life: Life) -> None:
        self._log = log
        self._life = life

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self._life.spend(lambda: self._log.publish(records))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


async def steward_of(stack: AsyncExitStack, transactions: Transactions, links: ClientPorts) -> Steward:
    """A steward that runs until the stack is closed, if it is not stopped before."""
    supervisor = Supervisor()
    stack.push_async_callback(supervisor.close)
    made = Steward(transactions, links, supervisor, 10, 10)
    stack.push_async_callback(made.stop)
    await made.start()
    return made


async def doomed_steward(stack: AsyncExitStack, database: Database, links: ClientPorts, life: Life) -> Steward:
    """A steward that dies when its life says so."""
    log: Any = _DoomedLog(links.log, life)
    return await steward_of(stack, _Doomed(database, life), replace(links, log=log))
