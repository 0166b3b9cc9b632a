"""Client of the few calls of the Kubernetes API that the engine needs, over aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from anabranch.core.errors import Misconfigured
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import (
    UNAUTHORIZED,
    ApiError,
    ApiUnreachable,
    Call,
    of_response,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.credentials import TokenSource, tls_context
from anabranch_taskgroup.worker.executors.programs.kubernetes.kubeconfig import ClusterAccess
from anabranch_taskgroup.worker.executors.programs.kubernetes.log_lines import LineSplitter

CONNECT_SECONDS = 10.0
RESPONSE_SECONDS = 30.0
WATCH_SECONDS = 100
"""How long one watch request lasts; the next one continues where it ended.

Less than `SILENT_SECONDS`, because the server sends no bookmarks for events: a watch of them that is silent would
count as broken.
"""
SILENT_SECONDS = 120.0
"""Seconds without data after which a watch counts as broken: the server ends each request before that."""
PAGE = 500
OPENED = "OPENED"
"""Type of the first event of a watch, which says that the server has accepted it."""
MAX_OBJECT_BYTES = 8 * 1024 * 1024

_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
_GROUPS = {"jobs": "batch"}
_ROOTS = {"": "/api/v1", "batch": "/apis/batch/v1"}


class Api:
    """The API of one cluster. Connections are opened at the first call, on the running event loop."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._tokens = TokenSource(access)
        self._session: aiohttp.ClientSession | None = None
        self._replaced: set[asyncio.Task[None]] = set()

    @property
    def namespace(self) -> str:
        """The namespace of the worker's pod or of the kubeconfig's context."""
        return self._access.namespace

    async def create(self, resource: str, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object and return it as the server has it."""
        call = _call("create", resource, namespace, body["metadata"]["name"])
        return await self._json("POST", call, _path(call, named=False), json=body)

    async def get(
        self, resource: str, namespace: str, name: str, group: str | None = None
    ) -> dict[str, Any] | None:
        """Read an object; None if it does not exist. `group` is `apps/v1` for one that is not a Job or pod."""
        call = _call("get", resource, namespace, name)
        try:
            if group is None:
                return await self._json("GET", call, _path(call))
            root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
            call = Call("get", resource, namespace, name, group.rpartition("/")[0])
            return await self._json("GET", call, f"{root}/namespaces/{namespace}/{resource}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def resume(self, namespace: str, name: str) -> None:
        """End the suspension of a Job."""
        call = _call("patch", "jobs", namespace, name)
        await self._json(
            "PATCH", call, _path(call), json={"spec": {"suspend": False}}, content="application/merge-patch+json"
        )

    async def delete(
        self, resource: str, namespace: str, name: str, *, propagation: str | None = None, grace: int | None = None
    ) -> None:
        """Delete an object; nothing if it does not exist."""
        call = _call("delete", resource, namespace, name)
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if propagation:
            body["propagationPolicy"] = propagation
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self._json("DELETE", call, _path(call), json=body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def list(
        self, resource: str, namespace: str, query: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], str]:
        """All objects that a selector selects, and the resource version of the list."""
        call = _call("list", resource, namespace)
        items: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = await self._json("GET", call, _path(call), query={**query, "limit": str(PAGE), **more})
            items += page.get("items") or ()
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, metadata["resourceVersion"]
            more = {"continue": metadata["continue"]}

    async def watch(
        self, resource: str, namespace: str, query: Mapping[str, str], version: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events after a resource version, until the server ends the request; the first one is `OPENED`."""
        call = _call("watch", resource, namespace)
        asked = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._stream(call, _path(call), asked, SILENT_SECONDS) as chunks:
            yield {"type": OPENED}
            lines = LineSplitter(MAX_OBJECT_BYTES)
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    yield orjson.loads(line)

    @asynccontextmanager
    async def log(
        self, namespace: str, pod: str, container: str, *, since: str | None = None, follow: bool = True
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The log of a container in chunks, each line with a timestamp, until the container has ended."""
        call = Call("get", "pods/log", namespace, pod)
        query = {"container": container, "timestamps": "true", "follow": "true" if follow else "false"}
        if since:
            query["sinceTime"] = since
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        async with self._stream(call, path, query, None) as chunks:
            yield chunks

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        await asyncio.gather(*self._replaced)

    async def _json(
        self,
        method: str,
        call: Call,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        seconds = aiohttp.ClientTimeout(total=RESPONSE_SECONDS, sock_connect=CONNECT_SECONDS)
        data = None if json is None else orjson.dumps(json)
        for attempt in (1, 2):
            async with self._response(method, call, path, query or {}, data, content, seconds) as response:
                if response.status == UNAUTHORIZED and attempt == 1 and self._tokens.forget():
                    continue
                body = orjson.loads(await _checked(call, response))
                return body if isinstance(body, dict) else {}
        raise AssertionError("the second response is returned or raised")

    @asynccontextmanager
    async def _stream(
        self, call: Call, path: str, query: Mapping[str, str], silent: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        seconds = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silent)
        async with self._response("GET", call, path, query, None, "", seconds) as response:
            if response.status >= 400:
                if response.status == UNAUTHORIZED:
                    self._tokens.forget()
                await _checked(call, response)
            try:
                yield self._chunks(call, response)
            finally:
                # A TLS connection that is closed amid a response waits for its peer, and outlives the session.
                if (left := response.connection) is not None and left.transport is not None:
                    left.transport.abort()

    async def _chunks(self, call: Call, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except _FAILURES as error:
            raise self._unreachable(call, error) from error

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        call: Call,
        path: str,
        query: Mapping[str, str],
        data: bytes | None,
        content: str,
        seconds: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json, */*"}
        if data is not None:
            headers["Content-Type"] = content
        try:
            if token := self._tokens.token(asyncio.get_running_loop().time()):
                headers["Authorization"] = f"Bearer {token}"
            request = self._opened().request(
                method,
                self._access.server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=seconds,
                server_hostname=self._access.server_name,
                allow_redirects=False,
            )
            async with request as response:
                yield response
        except Misconfigured as error:
            raise ApiUnreachable(call, self._access.server, str(error)) from error
        except _FAILURES as error:
            raise self._unreachable(call, error) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = tls_context(self._access)
            # Each Job that is followed holds a connection for its log, so their number has no limit here.
            connector = aiohttp.TCPConnector(limit=0, ssl=context if context is not None else True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _unreachable(self, call: Call, error: BaseException) -> ApiUnreachable:
        if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError) and self._session is not None:
            # The certificate authority may have been replaced: the next call reads its file again.
            session, self._session = self._session, None
            closing = asyncio.create_task(session.close())
            self._replaced.add(closing)
            closing.add_done_callback(self._replaced.discard)
        return ApiUnreachable(call, self._access.server, str(error) or type(error).__name__)


async def _checked(call: Call, response: aiohttp.ClientResponse) -> bytes:
    body = await response.read()
    if response.status < 400:
        return body
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    raise of_response(
        call, response.status, status, body.decode(errors="replace"), response.headers.get("Retry-After")
    )


def _call(verb: str, resource: str, namespace: str, name: str = "") -> Call:
    return Call(verb, resource, namespace, name, _GROUPS.get(resource, ""))


def _path(call: Call, *, named: bool = True) -> str:
    path = f"{_ROOTS[call.group]}/namespaces/{call.namespace}/{call.resource}"
    return f"{path}/{call.name}" if named and call.name else path
