"""The `http` agent: one HTTP request with limits on size, time and redirects, to checked addresses only.

Each hop resolves its host once, checks every address against the allow-list, and connects to the checked address,
not to the name: a second resolution could return another address (DNS rebinding). Proxy settings in the
environment are ignored, because a proxy would connect to unchecked addresses.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from anabranch.core.durations import parse_duration
from anabranch.core.errors import AnabranchError, GiveUp, RetryLater
from anabranch.runtime.instrumentation.correlation import trace_headers
from anabranch.sdk.agents import agent
from anabranch.sdk.http_policy import AllowList
from anabranch.sdk.task import Task

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_BYTES = 1_000_000
MAX_TIMEOUT = 600.0
MAX_BYTES = 50_000_000
MAX_REDIRECTS = 5

_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})
_OPEN_HEADERS = frozenset(
    {"accept", "accept-charset", "accept-encoding", "accept-language", "content-type", "user-agent"}
)
"""Headers that are kept in a redirect to another origin. Any other may be a credential, such as `X-Api-Key`."""
_CHUNK = 65_536


class HttpError(AnabranchError):
    """The request failed, or its response is an error. The task's retry policy applies."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request. `timeout` is for all hops together, in seconds."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = DEFAULT_TIMEOUT
    max_bytes: int = DEFAULT_MAX_BYTES

    @property
    def shown(self) -> str:
        """The URL for messages: without the query, which often has a key."""
        return self.url.partition("#")[0].partition("?")[0]


@agent("http")
class HttpAgent:
    """`inputs`: `url`; optional `method`, `headers`, `body` (text) or `json`, `timeout`, `max_bytes`.

    Returns `{"status", "url", "headers", "body"}`, with the body as JSON if its content type is JSON, else as
    text. A status of 400 and above is a failed attempt; 4xx other than 408, 425 and 429 are not retried.
    """

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow

    def __call__(self, task: Task) -> dict[str, Any]:
        call = _call(task.inputs)
        with _Deadline(call.timeout) as deadline:
            for _ in range(MAX_REDIRECTS + 1):
                if task.cancelled:
                    raise HttpError("cancelled")
                answer, target = self.hop(call, deadline)
                if target is None:
                    return answer
                call = _redirected(call, int(answer["status"]), target)
        raise GiveUp(f"http: more than {MAX_REDIRECTS} redirects")

    def hop(self, call: HttpCall, deadline: _Deadline) -> tuple[dict[str, Any], str | None]:
        """Send one request; returns its result, and the target if the response is a redirect."""
        url = _split(call.url)
        host = url.hostname or ""
        address = self._checked_address(host, url.port or _PORTS[url.scheme])
        with _errors(call, deadline):
            connection = _connect(url, address, call.timeout)
            try:
                deadline.guard(connection)
                return _exchange(connection, url, call)
            finally:
                connection.close()

    def _checked_address(self, host: str, port: int) -> tuple[str, int]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise HttpError(f"http: the host {host} cannot be resolved: {error}") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if reason := self._allow.refusal(host, address):
                raise GiveUp(f"http: {reason}")
        return addresses[0], port


def send(call: HttpCall, allow: AllowList) -> None:
    """Send one request to a checked address; returns if the response is a success.

    Raises:
        HttpError, GiveUp, RetryLater: the request failed or was refused, or the response is a redirect.
    """
    with _Deadline(call.timeout) as deadline:
        answer, target = HttpAgent(allow).hop(call, deadline)
    if target is not None:
        raise HttpError(f"http: {call.shown} answered {answer['status']}, a redirect: use the final address")


class _Deadline:
    """Closes the connection when the time for the whole call is over.

    A socket timeout is not enough: it starts again with each received byte.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.passed = False

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def guard(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._socket = connection.sock
            if self.passed:  # the timer ran before the socket was known, and could not cut it
                raise TimeoutError

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            if self._socket is not None:
                # A shutdown wakes the thread that waits in recv; closing the socket in another thread does not.
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:  # already closed
                    return


@contextmanager
def _errors(call: HttpCall, deadline: _Deadline) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if deadline.passed or isinstance(error, TimeoutError):
            raise HttpError(f"http: {call.shown} took longer than {call.timeout:g} s") from error
        raise HttpError(f"http: {call.shown}: {type(error).__name__}: {error}") from error
    except ValueError:  # dropped from the message and the cause: it quotes the header, which may be a credential
        raise GiveUp("http: the method or a header has characters that HTTP does not allow") from None


def _connect(url: SplitResult, address: tuple[str, int], timeout: float) -> http.client.HTTPConnection:
    """Connect to a checked address. The host name is only used for TLS and the Host header."""
    # By hand: http.client would resolve the name again.
    raw = socket.create_connection(address, timeout)
    host = url.hostname or ""
    connection = http.client.HTTPConnection(host, url.port or _PORTS[url.scheme], timeout=timeout)
    connection.auto_open = 0  # http.client would otherwise reconnect to the name, which is not checked
    try:
        secure = url.scheme == "https"
        connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if secure else raw
    except BaseException:
        raw.close()
        raise
    return connection


def _exchange(
    connection: http.client.HTTPConnection, url: SplitResult, call: HttpCall
) -> tuple[dict[str, Any], str | None]:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    own = {"Host": _host_header(url), "User-Agent": "anabranch", "Connection": "close", **trace_headers()}
    named = {name.lower() for name in call.headers}
    headers = {**{name: value for name, value in own.items() if name.lower() not in named}, **call.headers}
    connection.request(call.method, path, call.body, headers)
    with connection.getresponse() as response:
        return _answer(response, call)


def _answer(response: http.client.HTTPResponse, call: HttpCall) -> tuple[dict[str, Any], str | None]:
    """The agent's result, and the target if the response is a redirect."""
    answer: dict[str, Any] = {"status": response.status, "url": call.url}
    target = response.getheader("location") if response.status in _REDIRECTS else None
    if target is not None:
        return answer, urljoin(call.url, target)
    body = _read(response, call)
    _check_status(response, call, body)
    answer["headers"] = {name.lower(): value for name, value in response.getheaders()}
    answer["body"] = _decoded(response, body)
    return answer, None


def _read(response: http.client.HTTPResponse, call: HttpCall) -> bytes:
    chunks, size = [], 0
    while chunk := response.read1(_CHUNK):
        size += len(chunk)
        if size > call.max_bytes:
            raise GiveUp(f"http: the response of {call.shown} is larger than max_bytes = {call.max_bytes} bytes")
        chunks.append(chunk)
    if response.length:  # read1 returns an empty chunk for a connection that was closed too early
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(chunks)


def _check_status(response: http.client.HTTPResponse, call: HttpCall, body: bytes) -> None:
    if response.status < 400:
        return
    text = f"http: {call.method} {call.shown} answered {response.status} {response.reason}: {body[:200]!r}"
    if response.status < 500 and response.status not in (408, 425, 429):
        raise GiveUp(text)
    after = response.getheader("retry-after", "")
    if after.isascii() and after.isdigit():
        raise RetryLater(min(float(after), MAX_TIMEOUT), text)
    raise HttpError(text)


def _decoded(response: http.client.HTTPResponse, body: bytes) -> Any:
    kind = response.headers.get_content_type()
    text = body.decode(response.headers.get_content_charset() or "utf-8", "replace")
    if kind != "application/json" and not kind.endswith("+json"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HttpError(f"http: the response is labelled {kind}, but is not JSON: {error}") from error


def _redirected(call: HttpCall, status: int, target: str) -> HttpCall:
    """The next hop, as browsers do it: 303, and 301 or 302 of a POST, become a GET. Headers that may be
    credentials are dropped for another origin."""
    before, after = _split(call.url), _split(target)
    if (before.scheme, before.netloc) != (after.scheme, after.netloc):
        kept = {name: value for name, value in call.headers.items() if name.lower() in _OPEN_HEADERS}
        call = replace(call, headers=kept)
    to_get = (status == 303 and call.method != "HEAD") or (status in (301, 302) and call.method == "POST")
    return replace(call, url=target, method="GET", body=None) if to_get else replace(call, url=target)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # urlsplit checks the port only when it is read
    except ValueError as error:
        raise GiveUp(f"http: the url is invalid: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise GiveUp("http: the url must be an http or https URL with a host and without user and password")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise GiveUp("http: the url must be printable ASCII: percent-encode other characters")
    return parts


def _host_header(url: SplitResult) -> str:
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.port in (None, _PORTS[url.scheme]) else f"{host}:{url.port}"


def _call(inputs: Any) -> HttpCall:
    if not isinstance(inputs, Mapping) or not isinstance(inputs.get("url"), str):
        raise GiveUp("http: inputs must be an object with a url")
    try:
        body, headers = _body(inputs)
        return HttpCall(
            url=inputs["url"],
            method=str(inputs.get("method", "GET")).upper(),
            headers=headers,
            body=body,
            timeout=min(parse_duration(inputs.get("timeout", DEFAULT_TIMEOUT)), MAX_TIMEOUT) or DEFAULT_TIMEOUT,
            max_bytes=min(int(inputs.get("max_bytes", DEFAULT_MAX_BYTES)), MAX_BYTES),
        )
    except (TypeError, ValueError) as error:
        raise GiveUp(f"http: {error}") from error


def _body(inputs: Mapping[str, Any]) -> tuple[bytes | None, dict[str, str]]:
    headers = {str(name): str(value) for name, value in dict(inputs.get("headers") or {}).items()}
    own = sorted(name for name in headers if name.lower() in _OWN_HEADERS)
    if own:
        raise ValueError(f"the headers {', '.join(own)} are set by the agent itself")
    if "json" in inputs:
        headers.setdefault("Content-Type", "application/json")
        return json.dumps(inputs["json"]).encode(), headers
    body = inputs.get("body")
    return (None if body is None else str(body).encode()), headers
