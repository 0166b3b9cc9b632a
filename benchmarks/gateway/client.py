"""A minimal HTTP/1.1 client to load a gateway from one process. A client library would need more processor time
than the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """One keep-alive connection for one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, path: str, body: bytes = b"", accept: str = "application/json") -> int:
        """Send a request and read the response's head; returns the status. `body` or `events` reads the rest."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        assert self._reader is not None
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: {accept}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self._length = next(
            (int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:")), 0
        )
        return int(lines[0].split()[1])

    async def body(self) -> Any:
        """Read the body of the response, as JSON."""
        assert self._reader is not None
        data = await self._reader.readexactly(self._length)
        return json.loads(data) if data else None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the data of each Server-Sent Event. Other lines, such as those of the chunked encoding, are
        skipped."""
        assert self._reader is not None
        async for line in self._reader:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send one request on a new connection; returns the status and the JSON."""
    connection = Connection(url)
    try:
        status = await connection.send(method, path, b"" if body is None else json.dumps(body).encode())
        return status, await connection.body()
    finally:
        connection.close()
