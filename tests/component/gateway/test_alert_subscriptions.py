"""Subscriptions to alerts: Alertmanager's payloads, the order of an alert's start and end, and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_keys import Keys
from gateways import gateway, one_task
from waiting import eventually, eventually_true
from webhook_receiver import Receiver

from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.webhooks import dispatcher
from anabranch_gateway.webhooks.notifications import read_notifications

# Apprise imports a module that Python 3.13 no longer has, where there is one.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

FAILING = {**one_task("fail"), "request_id": "r1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow deliveries to this machine, and retry them soon."""
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "127.0.0.0/8")
    monkeypatch.setattr(dispatcher, "RETRY_SECONDS", (0.05, 0.05))


async def test_a_failed_run_is_one_alert_in_the_form_of_alertmanager(receiver: Receiver) -> None:
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": receiver.url, "format": "alertmanager"}
        made = await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit({**one_task(), "request_id": "r0"})
        await running.submit(FAILING)
        await eventually(lambda: receiver.got)
        run = await running.get("/v1/runs/r1")

    [payload] = receiver.events
    assert [rule["alert"] for rule in made.json()["rules"]] == [
        "AnabranchRunFailed",
        "AnabranchBreakerOpen",
        "AnabranchScheduleMissed",
    ]
    assert payload["receiver"] == made.json()["id"]
    assert payload["commonLabels"]["run_id"] == run["run_id"]
    assert payload["status"] == "firing"


async def test_the_end_of_an_alert_follows_its_start_though_that_is_retried() -> None:
    receiver = Receiver([503, 503])
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": receiver.url, "format": "alertmanager-api"}
        await running.http.post("/v1/subscriptions", json=wanted)
        for action in ("open", "close"):
            await running.http.post(f"/v1/breakers/echo/{action}", json={"reason": "outage"})
        await eventually(lambda: len(receiver.got) == 4)
    receiver.stop()

    alerts = [alert for [alert] in receiver.events]
    assert [each["endsAt"] > each["startsAt"] for each in alerts] == [True, True, True, False]
    assert len({json.dumps(each["labels"], sort_keys=True) for each in alerts}) == 1


async def test_rules_of_a_subscription_replace_the_built_in_ones(receiver: Receiver) -> None:
    rule = {
        "alert": "TaskFailed",
        "on": ["task.failed"],
        "resolved_by": ["task.completed"],
        "when": "error_type == 'RuntimeError'",
        "labels": {"team": "shop"},
        "annotations": {"summary": "{task} failed: {message}"},
        "expires": "10m",
    }
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": receiver.url, "format": "alertmanager", "rules": [rule]}
        made = await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit(FAILING)
        await eventually(lambda: receiver.got)
        kept = await running.get(f"/v1/subscriptions/{made.json()['id']}")

    [payload] = receiver.events
    [alert] = payload["alerts"]
    assert payload["commonLabels"]["team"] == "shop"
    assert alert["annotations"]["summary"].startswith("t failed: ")
    assert kept["rules"][0]["expires"] == 600
    assert kept["rules"][0]["when"]["field"] == "error_type"


async def test_a_message_about_an_alert_goes_to_a_configured_service(receiver: Receiver, tmp_path: Path) -> None:
    services = tmp_path / "notify.yaml"
    services.write_text(f"operators: {receiver.url.replace('http://', 'json://')}\n")
    async with gateway(Settings(gateway_notify=str(services))) as running:
        made = await running.http.post("/v1/subscriptions", json={"kind": "notify", "target": "operators"})
        unknown = await running.http.post("/v1/subscriptions", json={"kind": "notify", "target": "nobody"})
        await running.submit(FAILING)
        await eventually(lambda: receiver.got)

    [message] = receiver.events
    assert (made.status_code, made.json()["target"]) == (201, "operators")
    assert message["title"].startswith("[FIRING] Run ")
    assert "alertname=AnabranchRunFailed" in message["message"]
    assert unknown.status_code == 422
    assert "which has operators" in unknown.json()["detail"]


async def test_a_message_that_is_not_accepted_becomes_a_dead_letter(tmp_path: Path) -> None:
    receiver = Receiver([500] * 3)
    services = tmp_path / "notify.yaml"
    services.write_text(json.dumps({"operators": [receiver.url.replace("http://", "json://")]}))
    async with gateway(Settings(gateway_notify=str(services))) as running:
        await running.http.post("/v1/subscriptions", json={"kind": "notify", "target": "operators"})
        await running.submit(FAILING)
        letters: list[Any] = []

        async def has_dead_letter() -> bool:
            found = (await running.get("/v1/dead-letters"))["letters"]
            letters[:] = [each for each in found if each["code"] == "webhook_failed"]
            return bool(letters)

        await eventually_true(has_dead_letter)
    receiver.stop()

    assert len(receiver.got) == 3
    assert "did not accept the message" in letters[0]["reason"]


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"format": "pagerduty"}, "format must be"),
        ({"format": "alertmanager", "types": ["run.*"]}, "alerts have no types"),
        ({"rules": [{"alert": "A", "on": ["run.failed"]}]}, "only alerts have rules"),
        ({"format": "alertmanager", "rules": []}, "1 to 50 rules"),
        ({"format": "alertmanager", "rules": [{"alert": "A"}]}, "rules/0/on"),
        ({"format": "alertmanager", "rules": [{"alert": "a b", "on": ["run.failed"]}]}, "rules/0/alert"),
        (
            {"format": "alertmanager", "rules": [{"alert": "A", "on": ["run.failed"], "labels": {"run_id": "x"}}]},
            "the label run_id is set by the event",
        ),
        (
            {"format": "alertmanager", "rules": [{"alert": "A", "on": ["run.failed"], "when": "a =="}]},
            "rules/0/when",
        ),
        (
            {"format": "alertmanager", "rules": [{"alert": "A", "on": ["run.failed"], "expires": "90d"}]},
            "1 second to 30 days",
        ),
    ],
)
async def test_an_invalid_subscription_to_alerts_is_refused(more: dict[str, Any], detail: str) -> None:
    async with gateway() as running:
        wanted = {"kind": "webhook", "url": "https://example.com", **more}
        answer = await running.http.post("/v1/subscriptions", json=wanted)

    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "must be an object of names and URLs"),
        ("operators: 7", "URL 1 is not the URL of a service"),
        ("operators: [secret-token@nowhere]", "URL 1 is not the URL of a service"),
        ("operators: []", "has no URL"),
        ("'a/b': 'json://localhost'", "a/b"),
    ],
)
def test_a_wrong_file_of_services_stops_the_gateway_without_its_secrets(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "notify.yaml"
    path.write_text(text)

    with pytest.raises(Misconfigured) as caught:
        read_notifications(str(path))

    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert "secret-token" not in str(caught.value)


async def test_only_operators_send_messages_to_people(tmp_path: Path) -> None:
    services = tmp_path / "notify.yaml"
    services.write_text("operators: json://localhost\n")
    keys = Keys(tmp_path / "keys.yaml")
    settings = Settings(gateway_notify=str(services), gateway_keys=str(keys.path))
    async with gateway(settings, token=keys.tokens["submitter"]) as running:
        answer = await running.http.post("/v1/subscriptions", json={"kind": "notify", "target": "operators"})

    assert answer.status_code == 403
