"""Streams, WebSockets and waiting submits end soon after their caller loses access."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
import yaml
from gateway_keys import Keys
from gateways import Running, gateway, one_task
from waiting import eventually_true

from anabranch.core.names import run_id_for
from anabranch.core.wire.events import EventBatch, EventEntry, encode_batch
from anabranch.ports import Outgoing
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.access import api_keys as key_files
from anabranch_gateway.access import leases
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.runs.lookup import FoundRun
from anabranch_gateway.runs.pending import PendingRun

PATIENCE = (leases.CHECK_SECONDS, key_files.POLL_SECONDS, leases.CLOSE_SECONDS)
SOON = 10.0
LONG = {"seconds": 120, "value": 1}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(key_files, "POLL_SECONDS", 0.0)


def test_a_revoked_key_ends_long_responses_within_30_seconds() -> None:
    """The sum of the intervals: reload of the key file, check of the caller, end of the stream."""
    assert sum(PATIENCE) < 30


@asynccontextmanager
async def running_long(keys: Keys) -> AsyncIterator[Running]:
    """A gateway with the run `r1` of the project `shop`, which does not end."""
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        await running.submit({**one_task("sleep", inputs=LONG), "request_id": "r1"}, None, **keys.of("submitter"))

        async def is_there() -> bool:
            return (await running.http.get("/v1/runs/r1/request", headers=keys.of("viewer"))).status_code == 200

        await eventually_true(is_there)
        yield running


def revoke(keys: Keys) -> None:
    keys.path.write_text("keys: []")


def move_to_bank(keys: Keys) -> None:
    """The keys stay valid, but none of them has access to the project any more."""
    document = yaml.safe_load(keys.path.read_text())
    for entry in document["keys"]:
        entry["projects"] = ["bank"]
    keys.path.write_text(yaml.safe_dump(document))


Lose = Callable[[Keys], None]


@pytest.mark.parametrize("lose", [revoke, move_to_bank])
async def test_the_events_of_a_run_end(keys: Keys, lose: Lose) -> None:
    headers = {**keys.of("viewer"), "accept": "text/event-stream"}
    async with (
        running_long(keys) as running,
        running.http.stream("GET", "/v1/runs/r1/events", headers=headers) as sent,
    ):
        lines = sent.aiter_lines()
        await anext(lines)
        lose(keys)
        async with asyncio.timeout(SOON):
            async for _ in lines:
                pass


async def test_the_changes_of_all_runs_end(keys: Keys) -> None:
    async with (
        running_long(keys) as running,
        running.http.stream("GET", "/v1/events", headers=keys.of("viewer")) as sent,
    ):
        lines = sent.aiter_lines()
        await anext(lines)
        revoke(keys)
        async with asyncio.timeout(SOON):
            async for _ in lines:
                pass


@pytest.mark.parametrize("path", ["/v1/runs/r1/events/ws", "/v1/events/ws"])
async def test_a_websocket_is_closed_with_the_status(keys: Keys, path: str) -> None:
    async with running_long(keys) as running:
        url = running.service.url.replace("http", "ws").rstrip("/") + path
        async with websockets.connect(url, additional_headers=keys.of("viewer")) as socket:
            revoke(keys)
            async with asyncio.timeout(SOON):
                await socket.wait_closed()

            assert socket.close_code == 4401


@pytest.mark.parametrize("what", ["submit", "result"])
async def test_a_call_that_waits_for_the_end_of_a_run_is_refused(keys: Keys, what: str) -> None:
    async with running_long(keys) as running:

        def ask() -> Awaitable[httpx.Response]:
            if what == "submit":
                return running.submit(one_task("sleep", inputs=LONG), 60, **keys.of("submitter"))
            return running.http.get("/v1/runs/r1/result?wait=60s", headers=keys.of("viewer"))

        asking = asyncio.ensure_future(ask())
        await asyncio.wait({asking}, timeout=0.2)
        revoke(keys)
        async with asyncio.timeout(SOON):
            answer = await asking

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_call_that_is_still_allowed_continues_to_its_end(keys: Keys) -> None:
    headers = {**keys.of("viewer"), "accept": "text/event-stream"}
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        short = one_task("sleep", inputs={"seconds": 0.5, "value": 1})
        await running.submit({**short, "request_id": "r1"}, None, **keys.of("submitter"))
        answer = await running.http.get("/v1/runs/r1/events", headers=headers)
        waited = await running.submit(short, 30, **keys.of("submitter"))

    assert "event: run.completed" in answer.text
    assert waited.json()["status"] == "completed"


# --- runs submitted here, but admitted for another project ----------------------------------------


async def _shop_wins(running: Running) -> PendingRun:
    """The bank submitted `r1` here, and the Agency admits the shop's request of that id, from another gateway."""
    run_id = run_id_for("r1")
    taken = PendingRun(run_id, "r1", run_id, "bank", None, None, running.system.client.links.clock.now(), 0)
    running.service._context.lookup._pending.add(taken)
    return taken


async def test_the_loser_of_a_request_id_gets_no_events_of_the_winner(keys: Keys) -> None:
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        await _shop_wins(running)
        headers = {**keys.of("bank"), "accept": "text/event-stream"}
        async with running.http.stream("GET", "/v1/runs/r1/events", headers=headers) as sent:
            lines = sent.aiter_lines()
            await anext(lines)
            await running.system.client.submit({**one_task(), "request_id": "r1", "project": "shop"})
            async with asyncio.timeout(SOON):
                received = [line async for line in lines]

    assert not any(line.startswith("data:") for line in received)


async def test_the_loser_of_a_request_id_reads_no_data_of_the_winner(keys: Keys) -> None:
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        taken = await _shop_wins(running)
        run = await running.system.client.submit({**one_task(), "request_id": "r1", "project": "shop"})
        await run.result(20)

        async def is_shown() -> bool:
            view = await running.http.get("/v1/runs/r1", headers=keys.of("viewer"))
            return bool(view.json()["groups"])

        await eventually_true(is_shown)
        context = running.service._context
        lost = FoundRun(taken.run_id, "r1", taken.session_id, "bank", pending=taken)
        own = FoundRun(taken.run_id, "r1", taken.session_id, "shop", pending=taken)
        asked: list[Callable[[FoundRun], Awaitable[Any]]] = [
            lambda found: context.lookup.view(found),
            lambda found: context.requests.get(found),
            lambda found: context.lookup.confirm(found),
        ]
        refused = []
        for ask in asked:
            await ask(own)
            with pytest.raises(Refusal) as refusal:
                await ask(lost)
            refused.append(refusal.value.status)

    assert refused == [404] * 3


async def test_the_refusal_of_another_projects_request_is_not_shown_to_a_waiting_caller(keys: Keys) -> None:
    """Two requests have one request id: the waiting client got the rejection of the other one, with its errors."""
    async with running_long(keys) as running:
        asking = asyncio.ensure_future(running.http.get("/v1/runs/r1/result?wait=3s", headers=keys.of("viewer")))
        waiting = asyncio.ensure_future(
            running.submit({**one_task("sleep", inputs=LONG), "request_id": "r2"}, 3, **keys.of("submitter"))
        )
        await asyncio.wait({asking, waiting}, timeout=0.5)
        names, log = running.system.client.names, running.system.client.log
        for request_id in ("r1", "r2"):
            document = {"request_id": request_id, "project": "bank", "task_groups": "secret"}
            await log.publish([Outgoing(names.requests, None, json.dumps(document).encode())])

        answers = await asyncio.gather(asking, waiting)

    assert [each.status_code for each in answers] == [409, 202]
    assert answers[0].json()["code"] == "run_open"


async def test_a_run_of_unknown_project_is_not_shown_as_one_of_the_default_project(keys: Keys) -> None:
    """The project of a run is not known until its first event is read."""
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        names, log = running.system.client.names, running.system.client.log
        entry = EventEntry(type="task.started", cause=1, time=1.0, group="g", task="t")
        batch = EventBatch(run_id=run_id_for("x"), session_id="s", source="groups", entries=(entry,))
        await log.publish([Outgoing(names.events, batch.run_id, encode_batch(batch))])

        async def is_listed() -> bool:
            return len((await running.http.get("/v1/runs", headers=keys.of("root"))).json()["runs"]) == 1

        await eventually_true(is_listed)
        listed = (await running.http.get("/v1/runs", headers=keys.of("default"))).json()["runs"]
        shown = await running.http.get(f"/v1/runs/{batch.run_id}", headers=keys.of("default"))

    assert listed == []
    assert shown.status_code == 404
