"""Registry of embedded systems in this process, which a `Client` without arguments inside an agent uses.

A system is registered while it runs. Code that it starts, such as agents, finds it by a context variable. A thread
that an agent started has no such context and finds the system that was started last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.core.request.admission import Limits

if TYPE_CHECKING:
    from anabranch.sdk.client_ports import ClientPorts


@dataclass(frozen=True, eq=False, slots=True)
class LocalSystem:
    """A running embedded system: the ports of its client, and their event loop."""

    links: ClientPorts
    limits: Limits
    loop: asyncio.AbstractEventLoop

    @property
    def is_on_this_loop(self) -> bool:
        """True if the calling code runs on the system's own loop."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:  # no loop runs in this thread
            return False

    def links_here(self) -> ClientPorts:
        """The ports for the calling loop: on another loop than the system's, each call is forwarded to the
        system's loop."""
        if self.is_on_this_loop:
            return self.links
        from anabranch.sdk.bridge import bridged

        return bridged(self.links, self.loop)


_STARTED_BY: ContextVar[LocalSystem | None] = ContextVar("anabranch_local_system", default=None)
_RUNNING: list[LocalSystem] = []


def local_system() -> LocalSystem | None:
    """The system that runs the calling code, else the one that was started last; None if none runs."""
    started_by = _STARTED_BY.get()
    if started_by is not None:
        return started_by
    return _RUNNING[-1] if _RUNNING else None


@contextmanager
def running_here(system: LocalSystem) -> Iterator[None]:
    """Register the system while the context is open."""
    _RUNNING.append(system)
    try:
        yield
    finally:
        _RUNNING.remove(system)


@contextmanager
def starting(system: LocalSystem) -> Iterator[None]:
    """Bind all tasks started within the context, and their descendants, to the system."""
    token = _STARTED_BY.set(system)
    try:
        yield
    finally:
        _STARTED_BY.reset(token)
