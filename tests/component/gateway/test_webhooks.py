"""Subscriptions at the gateway: webhooks that are signed, retried and dead-lettered, and Redis channels."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from gateways import HELLO, gateway, one_task
from waiting import eventually, eventually_true
from webhook_receiver import Receiver

from anabranch.adapters.otel.telemetry import OpenTelemetry
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.webhooks import dispatcher
from anabranch_gateway.webhooks.delivery import new_secret, position_after, signature
from contract.gateway import audit_record_schema, webhook_record_schema

WAIT = {"name": "w", "wait": {"for": "1h"}}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow deliveries to this machine, and retry them without a wait."""
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "127.0.0.0/8")
    monkeypatch.setattr(dispatcher, "RETRY_SECONDS", (0.01, 0.01))


async def test_a_webhook_gets_its_events_signed(receiver: Receiver) -> None:
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": receiver.url, "types": ["run.*", "task.joined"]}
        made = await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit({**HELLO, "request_id": "r1"})
        await eventually(lambda: len(receiver.got) == 3)
        events = (await running.get("/v1/runs/r1/events", types="run.*,task.joined"))["events"]
        shown = await running.get(f"/v1/subscriptions/{made.json()['id']}")

    assert made.status_code == 201
    assert sorted(receiver.events, key=lambda event: event["seq"]) == events
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 3
    for headers, body in receiver.got:
        assert headers["webhook-signature"] == _expected(made.json()["secret"], headers, body)
    assert "secret" not in shown


async def test_a_refused_delivery_is_retried_and_then_dead_lettered() -> None:
    receiver = Receiver([500, 200, 503, 503, 410])
    async with gateway(telemetry=OpenTelemetry("gateway", "0", measures=True)) as running:
        await running.http.post(
            "/v1/subscriptions", json={"kind": "webhook", "url": receiver.url, "types": ["run.completed"]}
        )
        await running.submit({**one_task(), "request_id": "r1"})
        await eventually(lambda: len(receiver.got) == 2)
        await running.submit({**one_task(), "request_id": "r2"})

        async def has_dead_letter() -> bool:
            return bool((await running.get("/v1/dead-letters"))["letters"])

        await eventually_true(has_dead_letter)
        [dead_letter] = (await running.get("/v1/dead-letters"))["letters"]
        metrics = (await running.http.get("/metrics")).text
    receiver.stop()

    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(set(ids[:2])) == 1
    assert len(set(ids[2:])) == 1
    assert len(ids) == 5
    assert dead_letter["code"] == "webhook_failed"
    assert "410" in dead_letter["reason"]
    for outcome, count in (("delivered", 1), ("retried", 3), ("dead_letter", 1)):
        assert f'anabranch_gateway_deliveries_total{{outcome="{outcome}"}} {count}.0' in metrics


async def test_an_unsubscribed_webhook_gets_no_more_events(receiver: Receiver) -> None:
    async with gateway() as running:
        made = await running.http.post("/v1/subscriptions", json={"kind": "webhook", "url": receiver.url})
        path = f"/v1/subscriptions/{made.json()['id']}"
        ended = await running.http.delete(path)
        await running.submit(HELLO)
        listed = await running.get("/v1/subscriptions")
        gone = await running.http.get(path)

    assert (ended.status_code, gone.status_code) == (204, 404)
    assert listed == {"subscriptions": []}
    assert receiver.got == []


async def test_a_webhook_of_one_run_or_session_gets_nothing_of_others(receiver: Receiver) -> None:
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": receiver.url, "session_id": "mine", "types": ["run.completed"]}
        await running.submit({**one_task("fail"), "session_id": "mine"})
        await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit({**one_task(), "session_id": "other"})
        await running.submit({**one_task(), "session_id": "mine", "request_id": "r1"})
        await eventually(lambda: receiver.got)

    assert len(receiver.got) == 1


async def test_a_webhook_gets_the_events_of_the_schedules_of_its_project(receiver: Receiver) -> None:
    body = {"id": "hourly", "cron": "0 * * * *", "request": one_task(), "overlap": "skip"}
    wait = {"id": "slow", "every": "1h", "request": {"task_groups": [{"name": "g", "tasks": [WAIT]}]}}
    async with gateway() as running:
        for wanted in ({"types": ["schedule.*"]}, {"types": ["schedule.*"], "session_id": "s"}):
            await running.submit({**one_task(), "session_id": "s"})
            await running.http.post("/v1/subscriptions", json={"kind": "webhook", "url": receiver.url, **wanted})
        for each in (body, wait, {**body, "id": "theirs", "project": "other"}):
            assert (await running.http.post("/v1/schedules", json=each)).status_code == 201
        for path in ("hourly/pause", "theirs/pause", "slow/trigger", "slow/trigger", "slow/trigger"):
            assert (await running.http.post(f"/v1/schedules/{path}", json={})).status_code == 200
        await eventually(lambda: len(receiver.got) == 4)

    events = sorted(receiver.events, key=lambda event: (event["schedule"], event["seq"]))
    kinds = ["schedule.paused", "schedule.fired", "schedule.missed", "schedule.missed"]
    assert [event["type"] for event in events] == kinds
    assert {event["project"] for event in events} == {"default"}
    assert [event["reason"] for event in events[2:]] == ["overlap", "overlap"]
    assert all(event["at"].endswith("Z") for event in events[1:])
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 4


async def test_webhooks_of_all_projects_get_the_events_of_breakers(receiver: Receiver) -> None:
    async with gateway() as running:
        for wanted in ({"project": "other"}, {"session_id": "s"}):
            await running.submit({**one_task(), "session_id": "s"})
            wanted = {"kind": "webhook", "url": receiver.url, "types": ["breaker.*"], **wanted}
            assert (await running.http.post("/v1/subscriptions", json=wanted)).status_code == 201
        for action in ("open", "open", "close"):
            body = {"reason": "outage"} if action == "open" else {}
            assert (await running.http.post(f"/v1/breakers/echo/{action}", json=body)).status_code == 202
        await eventually(lambda: len(receiver.got) == 2)
        runs = (await running.http.get("/v1/runs")).json()["runs"]

    opened, closed = sorted(receiver.events, key=lambda event: event["seq"])
    assert (opened["type"], opened["agent"], opened["reason"]) == ("breaker.opened", "echo", "outage")
    assert (closed["type"], closed["agent"], closed["run_id"]) == ("breaker.closed", "echo", opened["run_id"])
    assert not [each for each in runs if each["run_id"] == opened["run_id"]], "a breaker is no run"


async def test_a_channel_gets_the_events_of_a_session() -> None:
    received: list[bytes | None] = []
    async with gateway() as running:
        await running.submit({**one_task("fail"), "session_id": "s"})
        await running.system.notifier.subscribe("anabranch.sub:mine", received.append)
        wanted = {
            "kind": "channel",
            "channel": "anabranch.sub:mine",
            "session_id": "s",
            "types": ["run.completed"],
        }
        made = await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit({**one_task("sleep", inputs={"seconds": 0.3, "value": 1}), "session_id": "s"})
        await eventually(lambda: received)

    assert made.status_code == 201
    assert json.loads(received[0] or b"")["type"] == "run.completed"


async def test_an_invalid_subscription_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "")
    wrong: list[dict[str, Any]] = [
        {},
        {"kind": "mail"},
        {"kind": "webhook"},
        {"kind": "webhook", "url": "ftp://host"},
        {"kind": "webhook", "url": "http://127.0.0.1/x"},
        {"kind": "webhook", "url": "http://[::ffff:10.0.0.1]/x"},
        {"kind": "webhook", "url": "http://user:pw@example.com"},
        {"kind": "webhook", "url": "https://example.com", "types": "run.*"},
        {"kind": "webhook", "url": "https://example.com", "channel": "c"},
        {"kind": "channel", "channel": "anabranch.sub:c"},
        {"kind": "channel", "channel": "other-product", "session_id": "s"},
        {"kind": "channel", "channel": "session:{x}:k", "session_id": "s"},
        {"kind": "channel", "channel": "anabranch.halt", "session_id": "s"},
        {"kind": "webhook", "url": "https://example.com", "project": "a b"},
        {"kind": "webhook", "url": "https://example.com", "more": 1},
    ]
    async with gateway() as running:
        answers = [await running.http.post("/v1/subscriptions", json=each) for each in wrong]
        unknown = {"kind": "webhook", "url": "https://example.com", "run_id": "nobody"}
        of_nobody = await running.http.post("/v1/subscriptions", json=unknown)

    assert [each.status_code for each in answers] == [422] * len(wrong)
    assert of_nobody.status_code == 404


async def test_a_name_that_resolves_to_this_machine_is_refused_at_delivery(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "")
    url = receiver.url.replace("127.0.0.1", "localhost")
    async with gateway() as running:
        await running.http.post(
            "/v1/subscriptions", json={"kind": "webhook", "url": url, "types": ["run.completed"]}
        )
        await running.submit(one_task())

        async def has_dead_letter() -> bool:
            return bool((await running.get("/v1/dead-letters"))["letters"])

        await eventually_true(has_dead_letter)
        [dead_letter] = (await running.get("/v1/dead-letters"))["letters"]

    assert "not a public address" in dead_letter["reason"]
    assert receiver.got == []


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'

    signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_32_bytes() -> None:
    assert base64.b64decode(new_secret(lambda count: b"x" * count).removeprefix("whsec_")) == b"x" * 32


def test_the_position_after_a_batch_is_that_of_its_reader() -> None:
    entries = (
        EventEntry(type="task.started", cause=5, time=1, spans=((0, 3), (7, 9))),
        EventEntry(type="task.joined", cause=6, time=1),
    )
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=entries)
    for before in (StreamPosition(), StreamPosition(4, 2, 5), StreamPosition(4, 2, 6)):
        sequence = before.sequence()
        list(sequence.read(batch))

        assert position_after(batch, before) == StreamPosition.of(sequence)


def _expected(secret: str, headers: dict[str, str], body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def test_records_on_the_gateways_topics_match_the_contract(receiver: Receiver) -> None:
    async with gateway() as running:
        await running.http.post("/v1/subscriptions", json={"kind": "webhook", "url": receiver.url})
        await running.submit(one_task())
        await running.submit({"task_groups": 7}, wait=None)
        records = (await running.get("/v1/audit"))["records"]
        [kept] = running.service._context.subscriptions.all.values()

    assert {each["outcome"] for each in records} == {"done", "refused"}
    for record in records:
        jsonschema.validate(record, audit_record_schema())
    stored = json.loads(kept.encode())
    jsonschema.validate(stored, webhook_record_schema())
    assert set(stored) == set(webhook_record_schema()["properties"])
