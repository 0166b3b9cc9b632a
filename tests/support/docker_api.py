"""A Docker API on a Unix socket, in this process: the routes that the executor of containers uses, and faults."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from docker_containers import Container, ContainerHost, Entry, Refusal

Reply = tuple[int, bytes]


@dataclass
class Request:
    method: str
    path: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class DockerApi:
    """Serves one `ContainerHost`.

    Attributes:
        requests: method and path of each request, in order.
        is_podman: True to answer as Podman 4.3 does: status 500 for most failures, and times in whole seconds.
        held: by a part of `METHOD /path`, an event that such a request waits for before it takes effect.
        failures: by such a part, the failure that the next request of it gets.
    """

    def __init__(self, host: ContainerHost, *, is_podman: bool = False) -> None:
        self.host = host
        self.is_podman = is_podman
        self.version = "1.41"
        self.requests: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = {}
        self.failures: dict[str, Refusal] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._routes: list[tuple[str, str, Callable[[Request, str], Awaitable[Reply | None]]]] = [
            ("POST", r"/containers/(create)", self._create),
            ("GET", r"/containers/(json)", self._list),
            ("GET", r"/containers/([^/]+)/json", self._inspect),
            ("POST", r"/containers/([^/]+)/start", self._start),
            ("POST", r"/containers/([^/]+)/rename", self._rename),
            ("POST", r"/containers/([^/]+)/wait", self._wait),
            ("POST", r"/containers/([^/]+)/stop", self._stop),
            ("POST", r"/containers/([^/]+)/attach", self._attach),
            ("PUT", r"/containers/([^/]+)/archive", self._extract),
            ("GET", r"/containers/([^/]+)/archive", self._archive),
            ("GET", r"/containers/([^/]+)/logs", self._logs),
            ("DELETE", r"/containers/([^/]+)", self._remove),
            ("POST", r"/images/(create)", self._pull),
            ("GET", r"/(info)", self._info),
        ]

    def hold(self, part: str) -> tuple[asyncio.Event, asyncio.Event]:
        """Hold the next requests with this part: an event for their arrival, and one that lets them go on."""
        self.reached[part], self.held[part] = asyncio.Event(), asyncio.Event()
        return self.reached[part], self.held[part]

    def break_connections(self) -> None:
        """End all connections, as an engine that is killed does."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self._writers.add(writer)
        try:
            while (request := await _read_request(reader, writer)) is not None:
                reply = await self._answered(request)
                if reply is None:
                    break
                self._write(writer, *reply)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answered(self, request: Request) -> Reply | None:
        if request.path == "/_ping":
            return 200, b"OK"
        path = re.sub(r"^/v[0-9.]+", "", request.path)
        self.requests.append(f"{request.method} {path}")
        try:
            await self._faults(f"{request.method} {path}")
            for method, form, handler in self._routes:
                found = re.fullmatch(form, path)
                if found is not None and method == request.method:
                    return await handler(request, unquote(found[1]))
            raise Refusal(404, "page not found")
        except Refusal as refusal:
            # Podman's status is 500 wherever Docker's tells what was wrong, except for a container that is gone.
            is_told = not self.is_podman or "No such" in str(refusal) or "Could not find" in str(refusal)
            return refusal.status if is_told else 500, json.dumps({"message": str(refusal)}).encode()

    async def _faults(self, request: str) -> None:
        for part, event in list(self.held.items()):
            if part in request:
                self.reached[part].set()
                await event.wait()
        for part in list(self.failures):
            if part in request:
                raise self.failures.pop(part)

    def _write(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        writer.write(self._head(status, f"Content-Length: {len(body)}") + body)

    def _head(self, status: int, more: str) -> bytes:
        date = format_datetime(datetime.now(UTC), usegmt=True)
        return f"HTTP/1.1 {status} X\r\nDate: {date}\r\nApi-Version: {self.version}\r\n{more}\r\n\r\n".encode()

    # --- containers

    async def _create(self, request: Request, _: str) -> Reply:
        container = self.host.create(request.parameters["name"], json.loads(request.body))
        return 201, json.dumps({"Id": container.id, "Warnings": []}).encode()

    async def _list(self, request: Request, _: str) -> Reply:
        wanted = [each.split("=", 1) for each in json.loads(request.parameters["filters"])["label"]]
        assert request.parameters["all"] == "true"
        found = [
            {
                "Id": each.id,
                "Names": [f"/{each.name}"],
                "State": each.status,
                "Created": int(each.created.timestamp()),
                "Labels": each.body["Labels"],
            }
            for each in self.host.containers.values()
            if all(each.body["Labels"].get(name) == value for name, value in wanted)
        ]
        return 200, json.dumps(found).encode()

    async def _inspect(self, request: Request, name: str) -> Reply:
        return 200, json.dumps(self.host.get(name).document()).encode()

    async def _start(self, request: Request, name: str) -> Reply:
        return (204 if await self.host.start(self.host.get(name)) else 304), b""

    async def _rename(self, request: Request, name: str) -> Reply:
        self.host.rename(self.host.get(name), request.parameters["name"])
        return 204, b""

    async def _wait(self, request: Request, name: str) -> Reply:
        return 200, json.dumps({"StatusCode": await self.host.wait(self.host.get(name))}).encode()

    async def _stop(self, request: Request, name: str) -> Reply:
        was_running = await self.host.stop(self.host.get(name), float(request.parameters["t"]))
        return (204 if was_running else 304), b""

    async def _remove(self, request: Request, name: str) -> Reply:
        assert request.parameters["v"] == "true"
        await self.host.remove(self.host.get(name), is_forced=request.parameters.get("force") == "true")
        return 204, b""

    async def _attach(self, request: Request, name: str) -> Reply | None:
        container = self.host.get(name)
        if container.stdin is not None:
            raise Refusal(500, f"container {name} is attached already")
        request.writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        container.stdin = request.reader
        container.tell()
        while container.status in ("created", "running"):
            await container.changed.wait()
        return None

    # --- files, logs, images

    async def _extract(self, request: Request, name: str) -> Reply:
        self.host.extract(self.host.get(name), request.parameters["path"], request.body)
        return 200, b""

    async def _archive(self, request: Request, name: str) -> Reply:
        return 200, self.host.archive(self.host.get(name), request.parameters["path"])

    async def _logs(self, request: Request, name: str) -> Reply | None:
        container, wanted = self.host.get(name), request.parameters
        streams = {number for number, key in ((1, "stdout"), (2, "stderr")) if wanted.get(key) == "true"}
        since = float(wanted.get("since", 0))
        request.writer.write(self._head(200, "Connection: close"))
        position = 0
        while True:
            changed = container.changed
            for entry in container.log[position:]:
                if entry.stream in streams and entry.time.timestamp() >= since:
                    request.writer.write(self._frame(entry, has_time=wanted.get("timestamps") == "true"))
            position = len(container.log)
            await request.writer.drain()
            if wanted.get("follow") != "true" or container.status != "running":
                return None
            await changed.wait()

    def _frame(self, entry: Entry, *, has_time: bool) -> bytes:
        time = entry.time.strftime("%Y-%m-%dT%H:%M:%SZ " if self.is_podman else "%Y-%m-%dT%H:%M:%S.%f000Z ")
        data = (time.encode() if has_time else b"") + entry.data
        return bytes((entry.stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data

    async def _pull(self, request: Request, _: str) -> Reply:
        image, tag = request.parameters["fromImage"], request.parameters["tag"]
        self.host.pulled.append((image, tag, request.headers.get("x-registry-auth")))
        lines = [{"status": "Pulling"}]
        if self.host.pull_error is None:
            self.host.images.add(f"{image}:{tag}")
        else:
            lines.append({"error": self.host.pull_error, "errorDetail": self.host.pull_error})
        return 200, b"".join(json.dumps(line).encode() + b"\r\n" for line in lines)

    async def _info(self, request: Request, _: str) -> Reply:
        return 200, b'{"Name": "machine-1"}'


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    with suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, body, reader, writer)
    return None


@asynccontextmanager
async def docker_api(folder: Path, *, is_podman: bool = False) -> AsyncIterator[DockerApi]:
    """Serve an API at `folder`/docker.sock until the end of the context."""
    host = ContainerHost(folder / "containers")
    api = DockerApi(host, is_podman=is_podman)
    server = await asyncio.start_unix_server(api.serve, folder / "docker.sock")
    try:
        yield api
    finally:
        server.close()
        await host.close()
        api.break_connections()


def only_container(api: DockerApi) -> Container:
    """The container of an engine that has one."""
    (container,) = api.host.containers.values()
    return container
