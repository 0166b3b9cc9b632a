"""Clients that send too long heads, or are slow on purpose: their connections are closed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from gateways import Running, gateway, one_task
from waiting import eventually

from anabranch_gateway.http.connection import MAX_HEAD, MAX_HEADERS, BoundedHttp, BoundedWebSocket

pytestmark = pytest.mark.usefixtures("impatient")
HOST = b"host: localhost\r\n"
UPGRADE = (
    b"GET /v1/events/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts to what a test can wait for."""
    for name in ("head_seconds", "body_seconds", "stall_seconds"):
        monkeypatch.setattr(BoundedHttp, name, 0.3)
    monkeypatch.setattr(BoundedWebSocket, "stall_seconds", 0.3)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as started:
        yield started


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection with a small receive window, so that unread data stays with the server."""
    port = int(running.service.url.rstrip("/").rpartition(":")[2])
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=2_000)
    async with asyncio.timeout(20):
        yield reader, writer
    writer.close()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the connection is closed."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
        b"GET /" + b"a" * 900,
    ],
)
async def test_a_head_that_does_not_end_closes_the_connection(running: Running, sent: bytes) -> None:
    async with connected(running) as (reader, writer):
        writer.write(sent)

        assert await rest_of(reader) == b""


async def test_a_second_head_that_does_not_end_closes_the_connection(running: Running) -> None:
    async with connected(running) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /livez HTTP/1.1\r\n")

        assert await rest_of(reader) != b"HTTP"


async def test_a_body_that_does_not_end_is_answered_with_408(running: Running) -> None:
    async with connected(running) as (reader, writer):
        writer.write(b"POST /v1/runs HTTP/1.1\r\n" + HOST + b"content-length: 1000\r\n\r\n{")
        head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-content-type-options: nosniff" in head
    assert orjson.loads(body)["code"] == "incomplete"
    assert running.service.app.state.context.parsing.budget.reserved == 0


async def test_a_body_that_continues_after_its_refusal_closes_the_connection(running: Running) -> None:
    async with connected(running) as (reader, writer):
        writer.write(b"POST /v1/runs HTTP/1.1\r\n" + HOST + b"content-length: 9000000\r\n\r\n{")

        assert (await rest_of(reader)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"x: y\r\n" * MAX_HEADERS,
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * (MAX_HEAD + 300_000),
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        b"GET /" + b"a" * (MAX_HEAD + 300_000),
        b"GET / HTTP/1.1\r\n" + HOST + b"a" * (MAX_HEAD + 300_000),
    ],
    ids=["headers", "endless header", "long header", "endless path", "endless name"],
)
async def test_a_head_over_its_limits_is_refused(running: Running, head: bytes) -> None:
    async with connected(running) as (reader, writer):
        writer.write(head)
        head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")

    if head:  # a client that goes on writing may be reset before it has read the answer
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"x-content-type-options: nosniff" in head
        assert orjson.loads(body)["code"] == "bad_request"


async def test_malformed_http_is_refused_with_a_problem(running: Running) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\nb\r\n\r\n",
        b"\0\0\0\0",
    ):
        async with connected(running) as (reader, writer):
            writer.write(sent)
            head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 400 "), sent
        assert b"x-content-type-options: nosniff" in head
        assert orjson.loads(body)["code"] == "bad_request"


async def test_an_answer_that_nobody_reads_closes_the_connection(running: Running) -> None:
    config = {"type": "array", "array_mapping": {"n": list(range(1_000))}}
    request = one_task(expansion_config=config, inputs=["{big}"]) | {"context": {"big": "x" * 500_000}}
    body = json.dumps(request).encode()
    async with connected(running) as (reader, writer):
        head = b"POST /v1/plan?expand=1 HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: running.service.connections == 0)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        read = len(await rest_of(reader))

    assert length > 10_000_000
    assert read < length


async def test_a_slow_reader_that_reads_gets_its_answer(running: Running) -> None:
    async with connected(running) as (reader, writer):
        writer.write(b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
        head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")
    assert orjson.loads(body)["openapi"] == "3.1.0"


async def test_a_connection_that_waits_for_an_answer_or_events_is_kept(running: Running) -> None:
    async with connected(running) as (reader, writer):
        run = (await running.submit(one_task("sleep", inputs={"seconds": 1.2}), wait=None)).json()["run_id"]
        writer.write(b"GET /v1/runs/%s/result?wait=20s HTTP/1.1\r\n" % run.encode() + HOST + b"\r\n")

        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_websocket_outlives_the_limits_of_a_head_and_takes_no_large_message(running: Running) -> None:
    async with connected(running) as (reader, writer):
        writer.write(UPGRADE)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await reader.read(1)
        writer.write(b"\x81\xff" + (100_000).to_bytes(8, "big") + b"\0" * 4)

        closed = await rest_of(reader)

    assert int.from_bytes(closed[2:4], "big") == 1009
