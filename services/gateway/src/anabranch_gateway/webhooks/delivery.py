"""Deliveries of events to webhooks, and their signatures (Standard Webhooks). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from anabranch.core.event_sources import is_of_run
from anabranch.core.wire.events import EventBatch, explode, is_wanted
from anabranch.sdk.run_events import shown
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.webhooks.alerts import Alert, AlertFormat, alerts_of, body_of
from anabranch_gateway.webhooks.fair_shares import Endpoint
from anabranch_gateway.webhooks.subscription import Subscription

SECRET_PREFIX = "whsec_"
RETRY_SECONDS = (2.0, 8.0, 30.0, 120.0)
"""Pauses between the attempts of one delivery. After the last failed attempt it becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one webhook.

    `id` is the same in each attempt and after a restart, so receivers can deduplicate.
    """

    id: str
    subscription: Subscription
    body: bytes
    run_id: str
    request_id: str
    session_id: str
    alert: Alert | None = None

    @property
    def order(self) -> str | None:
        """Deliveries with the same order are made one after the other: the end of an alert after its start."""
        return None if self.alert is None else f"{self.subscription.id}.{self.alert.fingerprint}"

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint whose share of threads and circuit breaker the delivery uses."""
        return Endpoint(self.subscription.project, self.subscription.target)


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A new secret in the form that Standard Webhooks specifies."""
    return SECRET_PREFIX + base64.b64encode(random_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(delivery: WebhookDelivery, now: float) -> dict[str, str]:
    """The headers of one attempt.

    Each attempt is signed with its own time, so that receivers can refuse replays.
    """
    timestamp = int(now)
    return {
        "content-type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(delivery.subscription.secret or "", delivery.id, timestamp, delivery.body),
    }


def deliveries(
    batch: EventBatch, before: StreamPosition, subscriptions: Mapping[str, Subscription]
) -> Iterator[WebhookDelivery]:
    """The deliveries of a batch to these subscriptions, in the order of the events.

    Args:
        before: the position in the run's events before the batch; it determines the `seq` of each event.
    """
    for event in _numbered(batch, before):
        for subscription in subscriptions.values():
            message_id = f"{subscription.id}.{batch.run_id}.{event['seq']}"
            about = (batch.run_id, batch.request_id, batch.session_id)
            if rules := subscription.alert_rules:
                for number, alert in enumerate(alerts_of(event, subscription.project, rules)):
                    body = body_of(alert, _alert_format(subscription), subscription.id)
                    yield WebhookDelivery(f"{message_id}.{number}", subscription, body, *about, alert)
            elif is_wanted(event["type"], subscription.types):
                yield WebhookDelivery(message_id, subscription, orjson.dumps(shown(event)), *about)


def _alert_format(subscription: Subscription) -> AlertFormat:
    return "alertmanager" if subscription.format == "events" else subscription.format


def _numbered(batch: EventBatch, before: StreamPosition) -> Iterator[dict[str, Any]]:
    """The events of a batch that are not repeated, with their `seq`.

    A schedule or a breaker outlives the retention of its events, so they cannot be counted from the first one. The
    `seq` of its events is their cause: it rises, with gaps, and is the same in each process.
    """
    if is_of_run(batch.run_id):
        yield from before.sequence().read(batch)
        return
    for entry in batch.entries:
        if entry.cause > before.runs:
            for event in explode(batch, entry):
                yield {"type": event.pop("type"), "time": event.pop("time"), "seq": entry.cause, **event}


def project_named(batch: EventBatch) -> str | None:
    """The project of a schedule, which each of its events names, `*` for a breaker; None for events of runs."""
    if is_of_run(batch.run_id):
        return None
    return next((each.data["project"] for each in batch.entries if "project" in each.data), None)


def position_after(batch: EventBatch, before: StreamPosition) -> StreamPosition:
    """The position in a run's events after a batch, computed without decoding its events one by one."""
    last = before.runs if batch.source == "runs" else before.groups
    fresh = [entry for entry in batch.entries if entry.cause > last]
    if not fresh:
        return before
    count = sum(1 if each.spans is None else sum(stop - start for start, stop in each.spans) for each in fresh)
    cause = max(last, batch.entries[-1].cause)
    counted = replace(before, seq=before.seq + count)
    return replace(counted, runs=cause) if batch.source == "runs" else replace(counted, groups=cause)
