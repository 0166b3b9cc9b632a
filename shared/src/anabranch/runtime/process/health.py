"""Health server for an orchestrator's probes: `/livez` and `/readyz` with a JSON body, and `/metrics`.

"Not live" means that a restart may help, "not ready" that the service cannot work at present. If Kafka or Redis is
unavailable the service is not ready but live, because a restart would not help. The server implements the part of
HTTP/1.1 that probes use, one request per connection. It runs in its own thread, so that it responds while an agent
blocks the service's event loop; a loop that is blocked for longer than PATIENCE is not live.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from http import HTTPStatus

import orjson

from anabranch.ports import Clock
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.heartbeat import PATIENCE

READ_SECONDS = 5.0
ANSWER_SECONDS = 0.5
"""Time after which the loop is reported as busy. Shorter than the usual timeout of a probe, one second."""
TICK_SECONDS = 1.0
MAX_REQUEST_LINE = 8_192
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of the Prometheus text format."""

_log = logging.getLogger("anabranch.health")


@dataclass(frozen=True, slots=True)
class Health:
    """Health of a service. `detail` is for people: its activity, or the reason if it is not live or not ready."""

    live: bool
    ready: bool
    detail: str = ""


def health_of(
    *,
    failure: BaseException | None = None,
    stuck: Iterable[str | None] = (),
    waiting_for: Iterable[str | None] = (),
    is_ready: bool = True,
    detail: str = "",
) -> Health:
    """Judge the health of a service; the first of these rules that applies decides.

    1. A crashed task (`failure`), or a component that makes no progress although it could (`stuck`): not live.
    2. A component that waits for a server (`waiting_for`): live and not ready.
    3. Otherwise live, and ready if `is_ready`.

    Args:
        stuck, waiting_for: the reason of each component of the service, None for a healthy one.
        detail: the activity of the service, shown if it is healthy.
    """
    if failure is not None:
        return Health(live=False, ready=False, detail=f"stopped: {failure!r}")
    reason = next((each for each in stuck if each is not None), None)
    if reason is not None:
        return Health(live=False, ready=False, detail=reason)
    reason = next((each for each in waiting_for if each is not None), None)
    return Health(live=True, ready=is_ready and reason is None, detail=reason or detail)


class HealthServer:
    """Responds to probes with the current result of `report`.

    Args:
        report: returns the service's health; called on the loop that called `start`, must not block.
        metrics: returns all metrics in the Prometheus text format; called in the server's own thread.
        service: the service's name, shown in the body.
        patience: seconds that the service's loop may be blocked and still count as live.
    """

    def __init__(
        self,
        report: Callable[[], Health],
        service: str,
        *,
        clock: Clock | None = None,
        patience: float = PATIENCE,
        metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self._metrics = metrics
        self._report = report
        self._service = service
        self._clock = clock or SystemClock()
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def start(self, port: int, host: str | None = None) -> int:
        """Listen on `host` (default: all interfaces). Returns the port, which the system chooses for port 0.

        Raises:
            OSError: the port is in use.
        """
        self._loop = asyncio.get_running_loop()
        self._tick()
        bound: Future[int] = Future()
        self._thread = threading.Thread(target=self._work, args=(port, host, bound), name="health", daemon=True)
        self._thread.start()
        found = await asyncio.wrap_future(bound)
        _log.info("the health server of %s listens on port %d: /livez, /readyz, /metrics", self._service, found)
        return found

    async def stop(self) -> None:
        """Close the port."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._own_loop is not None and self._stopping is not None and not self._own_loop.is_closed():
            self._own_loop.call_soon_threadsafe(self._stopping.set)
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def _tick(self) -> None:
        # Read by the server's thread without a lock: assigning a float is atomic.
        self._ticked = self._clock.monotonic()
        assert self._loop is not None
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)

    # --- in the thread

    def _work(self, port: int, host: str | None, bound: Future[int]) -> None:
        asyncio.run(self._serve(port, host, bound))

    async def _serve(self, port: int, host: str | None, bound: Future[int]) -> None:
        self._own_loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._answer, host, port, limit=MAX_REQUEST_LINE)
        except OSError as error:
            bound.set_exception(error)
            return
        bound.set_result(int(server.sockets[0].getsockname()[1]))
        await self._stopping.wait()
        # Open connections end with the loop: a slow probe must not delay the process.
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                line = await reader.readline()
                writer.write(await self._respond(line))
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a line over the limit
            _log.debug("a probe closed its connection early: %r", error)
        finally:
            writer.close()

    async def _respond(self, line: bytes) -> bytes:
        method, _, rest = line.decode("latin-1").strip().partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not supported: use GET"})
        if path == "/metrics" and self._metrics is not None:
            return _framed(HTTPStatus.OK, EXPOSITION, self._metrics() if method == "GET" else b"")
        health = await self._current_health()
        passed = {"/livez": health.live, "/readyz": health.live and health.ready}.get(path)
        if passed is None:
            return _response(HTTPStatus.NOT_FOUND, {"error": "not found: use /livez, /readyz or /metrics"})
        status = HTTPStatus.OK if passed else HTTPStatus.SERVICE_UNAVAILABLE
        return _response(status, {"service": self._service, **asdict(health)}, with_body=method == "GET")

    async def _current_health(self) -> Health:
        """The report of the service, or a health that says for how long its loop has been blocked."""
        assert self._loop is not None
        answer: Future[Health] = Future()
        try:
            # On the service's loop, because reports read state that only that loop changes.
            self._loop.call_soon_threadsafe(self._report_to, answer)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            busy = self._clock.monotonic() - self._ticked
            return Health(busy <= self._patience, False, f"the event loop has been busy for {busy:.0f} s")
        except RuntimeError:
            return Health(False, False, "the event loop is closed")

    def _report_to(self, answer: Future[Health]) -> None:
        """Set the result to the service's report. Runs on the service's loop."""
        if not answer.set_running_or_notify_cancel():  # the probe has timed out
            return
        try:
            answer.set_result(self._report())
        except Exception as error:  # noqa: BLE001 - a bug in a report must not pass for health
            answer.set_result(Health(False, False, f"the service's health report failed: {error!r}"))


def _response(status: HTTPStatus, document: dict[str, object], *, with_body: bool = True) -> bytes:
    return _framed(status, "application/json", orjson.dumps(document), with_body=with_body)


def _framed(status: HTTPStatus, kind: str, body: bytes, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
