"""The client for code without an event loop: the calls of `Client`, each of which blocks until it is done.

An ordinary `Client` works on the event loop of a private thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from anabranch.core.errors import Misconfigured
from anabranch.core.request.models import Request
from anabranch.sdk.approvals import Decision
from anabranch.sdk.client import Client
from anabranch.sdk.run import Published, Run
from anabranch.sdk.run_result import RunResult

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread. Thread-safe."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="anabranch-client", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. An interrupt of the caller cancels the coroutine."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items of an async iterator, each fetched on demand."""
        try:
            while True:
                try:
                    yield self.call(_following(source))
                except StopAsyncIteration:
                    return
        finally:
            self.call(_closed(source))  # an async generator has to be closed on its own loop

    def close(self) -> None:
        """Stop the loop and end the thread."""
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncClient:
    """Submits requests and follows runs, without an event loop. Use it as `with SyncClient(...) as client`.

    Takes the arguments of `Client`.
    """

    def __init__(
        self,
        brokers: str | None = None,
        redis_url: str | None = None,
        prefix: str | None = None,
        **settings: Any,
    ) -> None:
        self._client = Client(brokers, redis_url, prefix, **settings)
        self._thread: LoopThread | None = None

    @classmethod
    def over(cls, client: Client) -> Self:
        """Wrap a client that is not open yet."""
        wrapper = cls()
        wrapper._client = client
        return wrapper

    def __enter__(self) -> Self:
        """Connect. Raises as `Client` does.

        Raises:
            Misconfigured: called on the event loop of the embedded system, which would deadlock.
        """
        local = self._client.local()
        if local is not None and local.is_on_this_loop:
            reason = "it would block the event loop of the system that it waits for"
            raise Misconfigured("SyncClient", reason, "use `async with Client()` in an `async def` agent")
        thread = LoopThread()
        try:
            thread.call(self._client.__aenter__())
        except BaseException:
            thread.close()
            raise
        self._thread = thread
        return self

    def __exit__(self, *_: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.call(self._client.__aexit__(None, None, None))
            thread.close()

    def submit(
        self,
        request: Request | Mapping[str, Any] | str | Path,
        *,
        agents: Collection[str] | None = None,
        traceparent: str | None = None,
    ) -> SyncRun:
        """See `Client.submit`."""
        thread = self._open()
        return SyncRun(thread.call(self._client.submit(request, agents=agents, traceparent=traceparent)), thread)

    def run(self, run_or_request_id: str) -> SyncRun:
        """See `Client.run`."""
        thread = self._open()
        return SyncRun(thread.call(self._client.run(run_or_request_id)), thread)

    def retry(
        self,
        run_or_request_id: str,
        *,
        request_id: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> SyncRun:
        """See `Client.retry`."""
        thread = self._open()
        work = self._client.retry(run_or_request_id, request_id=request_id, by=by, reason=reason)
        return SyncRun(thread.call(work), thread)

    def publish(
        self,
        name: str,
        key: str | float = "",
        data: Any = None,
        *,
        id: str | None = None,
        ttl: float | str | None = None,
        deliver: Literal["all", "one"] | None = None,
        project: str | None = None,
    ) -> str:
        """See `Client.publish`."""
        work = self._client.publish(name, key, data, id=id, ttl=ttl, deliver=deliver, project=project)
        return self._open().call(work)

    def _open(self) -> LoopThread:
        if self._thread is None:
            raise RuntimeError("the client is not open: use `with SyncClient(...) as client`")
        return self._thread


class SyncRun:
    """A submitted run; see `Run`. `run_id`, `request_id` and `session_id` are the same."""

    def __init__(self, run: Run, thread: LoopThread) -> None:
        self._run = run
        self._thread = thread
        self.run_id = run.run_id
        self.request_id = run.request_id
        self.session_id = run.session_id

    def result(self, timeout: float | None = None, *, check: bool = False) -> RunResult:
        """See `Run.result`."""
        return self._thread.call(self._run.result(timeout, check=check))

    def events(self) -> Iterator[dict[str, Any]]:
        """See `Run.events`."""
        return self._thread.iterate(self._run.events())

    def results(self) -> Iterator[Published]:
        """See `Run.results`."""
        return self._thread.iterate(self._run.results())

    def cancel(self, reason: str | None = None, *, by: str | None = None) -> None:
        """See `Run.cancel`."""
        self._thread.call(self._run.cancel(reason, by=by))

    def terminate(self, reason: str | None = None, *, by: str | None = None) -> None:
        """See `Run.terminate`."""
        self._thread.call(self._run.terminate(reason, by=by))

    def pause(self, reason: str | None = None, *, by: str | None = None) -> None:
        """See `Run.pause`."""
        self._thread.call(self._run.pause(reason, by=by))

    def resume(self, reason: str | None = None, *, by: str | None = None) -> None:
        """See `Run.resume`."""
        self._thread.call(self._run.resume(reason, by=by))

    def redrive(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """See `Run.redrive`."""
        self._thread.call(self._run.redrive(group, task, indexes))

    def dismiss(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """See `Run.dismiss`."""
        self._thread.call(self._run.dismiss(group, task, indexes))

    def signal(self, name: str, value: Any = None, *, signal_id: str | None = None) -> None:
        """See `Run.signal`."""
        self._thread.call(self._run.signal(name, value, signal_id=signal_id))

    def approve(self, task: str, decision: str = "approve", **more: Any) -> Decision:
        """See `Run.approve`."""
        return self._thread.call(self._run.approve(task, decision, **more))


async def _following(source: AsyncIterator[T]) -> T:
    # `run_coroutine_threadsafe` takes only coroutines, and `anext` returns another awaitable.
    return await anext(source)


async def _closed(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
