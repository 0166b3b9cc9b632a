"""Ports of a system on another event loop: each call runs on that loop and is awaited on this one.

For clients in threads: `def` agents and `SyncClient`. Has only the calls that a client uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import EventLog, Incoming, Notifier, Reader, StateStore
from anabranch.sdk.client_ports import ClientPorts

T = TypeVar("T")


def bridged(links: ClientPorts, loop: asyncio.AbstractEventLoop) -> ClientPorts:
    """Wrap the ports of `loop` for code on another loop. Raises ServerUnavailable if `loop` has ended."""
    return ClientPorts(
        cast("EventLog", BridgedLog(links.log, loop)),
        cast("StateStore", Bridged(links.store, loop)),
        cast("Notifier", Bridged(links.notifier, loop)),
        links.names,
        links.clock,
        links.ids,
    )


class Bridged:
    """Proxy that runs every coroutine method of an object on the object's loop."""

    def __init__(self, target: object, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await _on(self._loop, _awaited(method, *args, **kwargs))

        return call


class BridgedLog(Bridged):
    """Proxy of a log. Its readers run on the log's loop, too."""

    @asynccontextmanager
    async def read(self, *args: Any, **kwargs: Any) -> AsyncIterator[Reader]:
        opened = cast("EventLog", self._target).read(*args, **kwargs)
        reader = await _on(self._loop, _awaited(opened.__aenter__))
        try:
            yield _BridgedReader(reader, self._loop)
        finally:
            await _on(self._loop, _awaited(opened.__aexit__, None, None, None))


class _BridgedReader:
    """See `ports.Reader`."""

    def __init__(self, reader: Reader, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = reader
        self._loop = loop

    async def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        batches = aiter(self._reader)
        while True:
            # None marks the end: in this generator, a StopAsyncIteration would become a RuntimeError.
            batch = await _on(self._loop, _awaited(anext, batches, None))
            if batch is None:
                return
            yield batch

    async def end_offsets(self) -> Mapping[int, int]:
        return await _on(self._loop, self._reader.end_offsets())


async def _awaited(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # `run_coroutine_threadsafe` takes only coroutines, and the call itself has to happen on the other loop.
    return await method(*args, **kwargs)


async def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on another loop; a cancellation here cancels it there."""
    if loop.is_closed():
        work.close()  # Python warns of a coroutine that was never awaited
        raise ServerUnavailable("the embedded system", "this process", "it has ended")
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
