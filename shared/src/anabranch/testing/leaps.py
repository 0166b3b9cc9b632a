"""Leaps over long times in which a system with virtual time does nothing but wait for a timer of an owner.

Virtual time passes from timer to timer. A system has periodic timers, so a wait of a year would be millions of
steps. While no member runs and no record is written, nothing depends on the steps, and time jumps to just before
the earliest timer of an owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from anabranch.embedded import Embedded, embedded
from anabranch.ports import Telemetry
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry
from anabranch.testing.loop import VirtualClock, VirtualLoop

LOOK_SECONDS = 1.0
QUIET_LOOKS = 5
"""Looks in a row that find nothing new, before time leaps."""
MARGIN_SECONDS = 5.0
"""Virtual seconds before the timer at which a leap ends: periodic timers have been due then."""

MAX_SECONDS = 5 * 86_400.0
"""Virtual seconds of one leap: what owners keep alive in the store must not expire during it."""


@runtime_checkable
class OwnerService(Protocol):
    """A service with owners of partitions."""

    @property
    def is_working(self) -> bool: ...

    @property
    def next_timer(self) -> float | None: ...


@asynccontextmanager
async def leaping(running: Embedded, loop: VirtualLoop) -> AsyncGenerator[None, None]:
    """Have time leap while the context is open."""
    task = asyncio.ensure_future(_leap(running, loop))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()  # raises the error that ended it


@asynccontextmanager
async def virtual_system(
    registry: Registry, settings: Settings, telemetry: Telemetry
) -> AsyncGenerator[Embedded, None]:
    """An embedded system in the time of the running loop, a `VirtualLoop`, which leaps over waits."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    clock = VirtualClock(loop, SystemClock().now())
    async with (
        embedded(registry, settings, store="memory", clock=clock, telemetry=telemetry) as running,
        leaping(running, loop),
    ):
        yield running


async def _leap(running: Embedded, loop: VirtualLoop) -> None:
    before: tuple[Sequence[int], float | None] | None = None
    quiet = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        owners = [service for service in running.services if isinstance(service, OwnerService)]
        due = min((timer for each in owners if (timer := each.next_timer) is not None), default=None)
        # A timer that has just fired has no record and no working owner yet: only its due time is gone.
        found = (await _written(running), due)
        is_quiet = found == before and not any(service.is_working for service in owners)
        quiet = quiet + 1 if is_quiet else 0
        before = found
        if quiet >= QUIET_LOOKS and due is not None and due - loop.time() > 2 * MARGIN_SECONDS:
            loop.elapse(min(due - loop.time() - MARGIN_SECONDS, MAX_SECONDS))
            quiet = 0


async def _written(running: Embedded) -> Sequence[int]:
    """Numbers of records on the topics of the owners."""
    names, found = running.names, []
    for topic in (names.requests, names.runs, names.groups):
        async with running.log.read(topic) as reader:
            found += list((await reader.end_offsets()).values())
    return found
