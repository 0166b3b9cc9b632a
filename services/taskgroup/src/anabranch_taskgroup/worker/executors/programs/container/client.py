"""A client of the Docker API, for the calls that the executor of containers makes.

It stands on aiohttp, and not on aiodocker (0.27): that one drops the stream of a line, takes a broken connection
for the end of a log, and reads whole frames of any length. Each of these would lose or repeat lines here.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import aiohttp
import orjson

from anabranch_taskgroup.worker.executors.programs.container.addresses import EngineAddress
from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable

OLDEST_API, NEWEST_API = (1, 40), (1, 48)
"""Versions of the API that this client was written for. The engine's own is used if it lies between them."""

CONNECT_SECONDS = 10
ANSWER_SECONDS = 120
"""Time for an answer. An engine that creates many containers at once takes its time."""
CHUNK_BYTES = 64 * 1024
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the engine.

    Attributes:
        time: of the engine's clock, in seconds; None if it did not say.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    time: datetime | None

    @property
    def is_success(self) -> bool:
        return self.status < 400

    @property
    def message(self) -> str:
        """The engine's reason for a failure."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = None
        message = document.get("message") if isinstance(document, dict) else None
        return str(message) if message else self.body[:500].decode(errors="replace").strip()

    def json(self) -> Any:
        """The document of a success.

        Raises:
            EngineUnavailable: the answer is none of the Docker API.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise EngineUnavailable(
                f"the answer begins with {self.body[:60]!r}, which is not of the Docker API: is the socket "
                "that of a container engine?"
            ) from None


class DockerClient:
    """Sends requests to one engine, under the version of the API that both know.

    Raises:
        EngineUnavailable: from every operation, if the engine cannot be reached or breaks the connection.
    """

    def __init__(self, address: EngineAddress) -> None:
        self.address = address
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(address.path, limit=0) if address.path else aiohttp.TCPConnector(limit=0)
        )
        host = "http://engine" if address.path else f"http://{address.host}:{address.port}"
        # Proxies of the environment are for registries, and the engine uses them by itself.
        self._session = aiohttp.ClientSession(host, connector=connector, trust_env=False)
        self._version: str | None = None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] = _NO_PARAMETERS,
        document: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        seconds: float | None = ANSWER_SECONDS,
    ) -> Answer:
        """Send a request, and read the whole answer, of any status.

        Args:
            document: the body as JSON; `data`: the body as a tar archive.
            seconds: time for the answer; None for no limit.
        """
        body, kind = (
            (data, "application/x-tar") if document is None else (orjson.dumps(document), "application/json")
        )
        all_headers = {**headers, "Content-Type": kind} if body is not None else dict(headers)
        async with self._sent(method, path, parameters, body, all_headers, seconds) as response:
            return Answer(response.status, await response.read(), response.headers, _date(response.headers))

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        parameters: Mapping[str, str],
        *,
        method: str = "GET",
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request whose answer has any length and takes any time, such as a log that is followed."""
        async with self._sent(method, path, parameters, None, dict(headers), None) as response:
            yield response

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            version = self._version or await self._negotiated()
            async with self._session.request(
                method,
                f"/v{version}{path}",
                params=parameters,
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                timeout=limits,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error, f"{method} {path}") from error

    async def _negotiated(self) -> str:
        """The version of the API: asked for once, and again after a broken connection, as of another engine."""
        limits = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        async with self._session.get("/_ping", timeout=limits) as response:
            offered = response.headers.get("Api-Version", "")
        try:
            major, minor = (int(part) for part in offered.split("."))
        except ValueError:
            raise EngineUnavailable(
                f"{self.address} does not say which version of the Docker API it speaks (header Api-Version is "
                f"{offered!r}); is it the socket of a container engine?"
            ) from None
        if (major, minor) < OLDEST_API:
            raise EngineUnavailable(
                f"the engine at {self.address} speaks version {offered} of the Docker API, and "
                f"{'.'.join(map(str, OLDEST_API))} or newer is needed: update the engine"
            )
        major, minor = min((major, minor), NEWEST_API)
        self._version = f"{major}.{minor}"
        return self._version

    async def attach_stdin(self, container: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the stdin of a container that was created for it.

        Returns:
            The connection, on which everything that is written is stdin. Its end is the end of stdin.

        Raises:
            FileNotFoundError: there is no container of this name.
        """
        try:
            version = self._version or await self._negotiated()
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await self._connected()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error, "attach") from error
        request = (
            f"POST /v{version}/containers/{container}/attach?stream=1&stdin=1&stdout=0&stderr=0 HTTP/1.1\r\n"
            "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        )
        try:
            writer.write(request.encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            writer.close()
            raise self._unavailable(error, "attach") from error
        status = head.split(b" ", 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            writer.close()
            if status == [b"404"]:
                raise FileNotFoundError(container)
            first = head.split(b"\r\n", 1)[0].decode(errors="replace")
            raise EngineUnavailable(
                f"the engine at {self.address} does not attach to stdin of {container}: {first}"
            )
        return reader, writer

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.path:
            return await asyncio.open_unix_connection(self.address.path)
        return await asyncio.open_connection(self.address.host, self.address.port)

    def _unavailable(self, error: BaseException, action: str) -> EngineUnavailable:
        self._version = None
        cause = getattr(error, "os_error", error)
        if isinstance(cause, PermissionError):
            reason = "the worker's user may not open it: add the user to the socket's group"
        elif isinstance(cause, FileNotFoundError):
            reason = "there is no such socket: start the engine, or correct ANABRANCH_CONTAINER_SOCKET"
        elif isinstance(cause, ConnectionRefusedError):
            reason = "nothing listens there: start the engine"
        elif isinstance(cause, TimeoutError):
            reason = f"no answer in time to {action}"
        else:
            reason = f"the connection broke at {action}: {cause or type(cause).__name__}"
        return EngineUnavailable(f"the container engine at {self.address} cannot be reached: {reason}")


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return None
