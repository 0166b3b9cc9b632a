"""HTTP client of the gateway's API; translates problem documents into errors of this package."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from anabranch.cli.backends.broker_probe import connection_failure
from anabranch.core.errors import AnabranchError, Misconfigured, Problem, RequestRefused, ServerUnavailable

CONNECT_SECONDS = 1.5
RESPONSE_SECONDS = 30.0
STREAM_SECONDS = 45.0
"""Seconds without data after which a stream counts as broken: the gateway sends a comment every 15 seconds."""
SERVER = "the gateway"
START = "Start one with `anabranch dev`; `anabranch run FILE --embedded` needs none"
_BUSY = "an agent that blocks the event loop of `anabranch dev` keeps it from answering"


class Refused(AnabranchError):
    """The gateway responded with a problem document without a list of errors."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        super().__init__(status, code, detail)

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One Server-Sent Event; a comment has no data."""

    id: str | None
    data: Any = None

    @property
    def is_comment(self) -> bool:
        return self.data is None


class Api:
    """Client of the API at one base URL, which ends with a slash."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, *path: str, seconds: float = RESPONSE_SECONDS, **query: Any) -> Any:
        """Send a GET and return its JSON. Raises Refused, RequestRefused, Misconfigured, ServerUnavailable."""
        return await self._call("GET", path, query, None, {}, seconds)

    async def post(self, *path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send a POST and return its JSON. Raises as `get`."""
        data = orjson.dumps({} if body is None else body)
        return await self._call("POST", path, {}, data, {"content-type": "application/json", **(headers or {})})

    async def patch(self, *path: str, body: Any) -> Any:
        """Send a PATCH and return its JSON. Raises as `get`."""
        headers = {"content-type": "application/json"}
        return await self._call("PATCH", path, {}, orjson.dumps(body), headers)

    async def delete(self, *path: str) -> Any:
        """Send a DELETE and return its JSON. Raises as `get`."""
        return await self._call("DELETE", path, {}, None, {})

    async def stream(self, *path: str, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Yield Server-Sent Events until the gateway ends the stream. Raises as `get`."""
        headers = {"accept": "text/event-stream", **({} if after is None else {"last-event-id": after})}
        limits = aiohttp.ClientTimeout(connect=CONNECT_SECONDS, sock_read=STREAM_SECONDS)
        with self._errors():
            async with self._session.get(self._address(path), headers=headers, timeout=limits) as response:
                if response.status != 200:
                    self._parse_response(response.status, await response.read())
                async for event in read_events(response.content.iter_any()):
                    yield event

    async def _call(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, Any],
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float = RESPONSE_SECONDS,
    ) -> Any:
        given = {name: _text(value) for name, value in query.items() if value is not None}
        limits = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
        with self._errors():
            async with self._session.request(
                method, self._address(path), params=given, data=body, headers=headers, timeout=limits
            ) as response:
                return self._parse_response(response.status, await response.read())

    def _address(self, path: tuple[str, ...]) -> Any:
        from yarl import URL

        # `encoded`: yarl would decode `%2F` in an id, which then would be a separator of the path.
        return URL(self.url + "/".join(quote(part, safe="") for part in path), encoded=True)

    def _parse_response(self, status: int, body: bytes) -> Any:
        """The JSON of a response, None if it has none. Raises the error that a problem document describes."""
        if status == 204:
            return None
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            if status >= 500:  # an error page of a proxy, or a gateway that shuts down
                raise ServerUnavailable(SERVER, self.url, f"status {status}", START) from None
            reason = f"the server at {self.url} is not a gateway (status {status}, the body is not JSON)"
            raise Misconfigured("url", reason, START) from None
        if status < 400:
            return document
        raise _error_of(status, document if isinstance(document, dict) else {}, self.url)

    def _errors(self) -> _Errors:
        return _Errors(self.url)


@asynccontextmanager
async def open_api(url: str, api_key: str | None) -> AsyncIterator[Api]:
    """Open a client of the API at a URL; it sends `api_key` if one is given."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=True) as session:
        yield Api(url, session)


class _Errors:
    """Translate errors of the HTTP client into ServerUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.InvalidURL):
            raise Misconfigured("url", f"{self._url} is not a URL", "write http://host:port/") from error
        # Before ClientError: some of aiohttp's timeouts are both.
        if isinstance(error, TimeoutError):
            raise ServerUnavailable(SERVER, self._url, f"no answer in time; {_BUSY}", START) from error
        if isinstance(error, aiohttp.ClientError):
            raise ServerUnavailable(SERVER, self._url, _reason(error), START) from error


def _reason(error: aiohttp.ClientError) -> str:
    return connection_failure(getattr(error, "os_error", None) or error) or type(error).__name__


def _error_of(status: int, problem: Mapping[str, Any], url: str) -> AnabranchError:
    detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
    if errors := problem.get("errors"):
        return RequestRefused([_problem(each) for each in errors])
    if status in (401, 403):
        return Misconfigured("api_key", detail, "set ANABRANCH_API_KEY to a key of this gateway")
    if status >= 500 and status != 501:
        return ServerUnavailable("a server behind the gateway", url, detail)
    return Refused(status, str(problem.get("code") or ""), detail)


def _problem(error: Mapping[str, Any]) -> Problem:
    return Problem(*(str(error.get(name) or "") for name in ("code", "path", "message", "hint")))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[StreamEvent, None]:
    """Parse Server-Sent Events from the byte chunks of a stream."""
    rest = b""
    async for chunk in chunks:
        # A chunk may end in the middle of an event.
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            if (event := _event(block)) is not None:
                yield event


def _event(block: bytes) -> StreamEvent | None:
    if block.startswith(b":"):
        return StreamEvent(None)
    fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
    if b"data" not in fields:
        return None
    event_id = fields.get(b"id")
    return StreamEvent(None if event_id is None else event_id.decode(), orjson.loads(fields[b"data"]))
