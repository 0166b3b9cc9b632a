"""Commands through a gateway that requires a key, restarts, is unavailable, or is another program."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_keys import Keys
from gateways import HELLO, gateway, one_task, serving
from waiting import eventually, eventually_true

from anabranch import Registry, Task, agent
from anabranch.cli.backends import http_api as calls
from anabranch.cli.backends.backend import FollowedRun
from anabranch.cli.backends.http_api import StreamEvent, open_api
from anabranch.cli.backends.http_run import HttpRun, batch_of, stream_events
from anabranch.cli.backends.selection import Address, open_gateway
from anabranch.cli.commands.control import control
from anabranch.cli.commands.events import show_events
from anabranch.cli.commands.list_status_result import list_runs, show_status
from anabranch.cli.render.tables import Form
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.core.wire.events import EventSequence
from anabranch.embedded import Embedded, embedded
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.run_events import shown


@agent("forever")
async def forever(task: Task) -> None:
    await asyncio.Event().wait()


# --- keys ----------------------------------------------------------------------------------------


async def test_a_gateway_that_requires_a_key_accepts_it_and_reports_a_missing_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    viewer = keys.of("viewer")["authorization"].removeprefix("Bearer ")
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        await running.submit({**HELLO, "request_id": "r1"}, **keys.of("submitter"))
        url = running.service.url

        async def is_listed() -> bool:
            """A run is listed once its first event was read, which may be after its result was."""
            settings = Settings(url=url, api_key=viewer)
            assert await list_runs(settings, limit=5, status=None, form=Form.JSON) == 0
            return [run["request_id"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["r1"]

        await eventually_true(is_listed)
        for key in (None, "anb_010101010101_AAAA"):
            with pytest.raises(Misconfigured, match=r"api_key: .*ANABRANCH_API_KEY"):
                await show_status(Settings(url=url, api_key=key), "r1", form=Form.JSON)
        with pytest.raises(Misconfigured, match="needs the role submitter"):
            await control(Settings(url=url, api_key=viewer), "cancel", "r1", json=True)


# --- a gateway that goes and comes ---------------------------------------------------------------


@pytest.fixture
async def system() -> AsyncIterator[Embedded]:
    async with embedded(Registry.builtin().add(forever), store="memory") as running:
        yield running


async def test_a_run_is_followed_over_a_restart_of_the_gateway(system: Embedded) -> None:
    agents = frozenset({"forever"})
    async with serving(system, Settings(), agents) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        async with open_gateway(Address(first.url)) as reached:
            run = await reached.submit(one_task("forever", dependencies=[]))
            seen: list[str] = []
            following = asyncio.create_task(_types_of(run, seen))
            ending = asyncio.create_task(run.ended(20))
            await eventually(lambda: "task.started" in seen)
            await first.stop()
            async with serving(system, Settings(gateway_port=port), agents):
                await (await system.client.run(run.run_id)).cancel()
                assert await ending == "cancelled"
                await asyncio.wait_for(following, 20)
                result = await run.result()

    assert result.status == "cancelled"
    assert seen[0] == "run.accepted"
    assert seen[-1] == "run.cancelled"
    assert len(seen) == len(set(seen))


async def _types_of(run: FollowedRun, seen: list[str]) -> None:
    async for batch in run.event_batches():
        seen.extend(entry.type for entry in batch.entries)


async def test_retries_of_an_unavailable_gateway_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.cli.backends.http_run.UNAVAILABLE_SECONDS", 0.1)
    monkeypatch.setattr("anabranch.cli.backends.http_run.PAUSE_SECONDS", 0.01)
    async with open_api(f"http://127.0.0.1:{_free_port()}/", None) as api:
        run = HttpRun(api, {"run_id": "r", "request_id": "q", "session_id": "s"})

        with pytest.raises(ServerUnavailable, match="connection refused"):
            await run.ended()
        with pytest.raises(ServerUnavailable, match="connection refused"):
            async for _ in stream_events(api, "r"):
                pass


# --- servers that are not a gateway ---------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that gives this response to everything; with an empty one it never responds. Yields its URL."""

    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if answer:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "is not a gateway"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "is not a gateway"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be reached"),
        (b'HTTP/1.1 503 X\r\ncontent-length: 19\r\n\r\n{"detail": "later"}', "later"),
    ],
)
async def test_a_url_without_a_gateway_is_reported(answer: bytes, message: str) -> None:
    async with answering(answer) as url:
        with pytest.raises((Misconfigured, ServerUnavailable), match=message):
            await show_status(Settings(url=url), "r", form=Form.JSON)
        with pytest.raises((Misconfigured, ServerUnavailable), match=message):
            await show_events(Settings(url=url), "r", follow=False, form=None)


async def test_the_wait_for_an_unresponsive_gateway_is_bounded() -> None:
    async with answering(b"") as url, open_api(url, None) as api:
        with pytest.raises(ServerUnavailable, match="an agent that blocks the event loop"):
            await api.get("v1", "runs", seconds=0.1)


# --- the stream ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_events_are_read_whatever_the_chunks_of_the_stream(size: int) -> None:
    text = (
        'retry: 2000\n\n: still here\n\nid: 1.0\nevent: a\ndata: {"v": "é\\n"}\n\nevent: b\ndata: 7\n\n'.encode()
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    found = [event async for event in calls.read_events(pieces())]

    assert found == [StreamEvent(None), StreamEvent("1.0", {"v": "é\n"}), StreamEvent(None, 7)]


async def test_an_event_is_the_same_after_its_way_through_the_api(system: Embedded) -> None:
    handle = await system.client.submit({**HELLO, "request_id": "r1"})
    await handle.result(20)
    events = [event async for event in handle.events()]
    sequence = EventSequence()

    again = [shown(event) for each in events for event in sequence.read(batch_of(each))]

    assert again == events
