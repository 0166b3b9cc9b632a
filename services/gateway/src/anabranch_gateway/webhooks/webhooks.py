"""Subscriptions as data, which events they want, and how a delivery is signed (Standard Webhooks). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import orjson
from pydantic import TypeAdapter

from anabranch.core.wire.events import EventBatch, is_wanted
from anabranch.sdk.run_events import shown
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.webhooks.delivery_shares import Endpoint

SECRET_LEAD = "whsec_"
RETRY_SECONDS = (2.0, 8.0, 30.0, 120.0)
"""Between the attempts of one delivery; after the last it is a dead letter."""

Kind = Literal["webhook", "channel"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who wants which events where. `types` empty: all; `created_at`: seconds since the epoch."""

    id: str
    kind: Kind
    target: str
    """A URL, or the name of a Redis channel."""
    types: tuple[str, ...]
    project: str
    owner: str
    created_at: float
    run_id: str | None = None
    session_id: str | None = None
    secret: str | None = None

    def wants(self, batch: EventBatch, project: str, at: float) -> bool:
        """Whether anything of a batch may be for it; `at`: the time of the batch's record."""
        return (
            self.kind == "webhook"
            and at >= self.created_at
            and project == self.project
            and self.run_id in (None, batch.run_id)
            and self.session_id in (None, batch.session_id)
        )

    def stored(self) -> bytes:
        """The record's value on the topic: with the secret, which is needed to sign."""
        return orjson.dumps(asdict(self))

    @classmethod
    def of_stored(cls, value: bytes) -> Self:
        """Decode a subscription from a record's value. Raises ValueError if the value is not a subscription."""
        return _STORED.validate_json(value, strict=True)  # type: ignore[return-value]

    def to_document(self, *, with_secret: bool = False) -> dict[str, Any]:
        """What callers see; the secret once, when it is made."""
        where = {"url": self.target} if self.kind == "webhook" else {"channel": self.target}
        document = {
            "id": self.id,
            "kind": self.kind,
            **where,
            "types": list(self.types),
            "project": self.project,
            "run_id": self.run_id,
            "session_id": self.session_id,
            "owner": self.owner,
            "created_at": self.created_at,
        }
        return document | ({"secret": self.secret} if with_secret and self.secret else {})


_STORED = TypeAdapter(Subscription)


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one webhook. `id` is the same in each attempt and after a restart."""

    id: str
    subscription: Subscription
    body: bytes
    run_id: str
    request_id: str
    session_id: str

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.subscription.project, self.subscription.target)


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A fresh secret in the form that Standard Webhooks names."""
    return SECRET_LEAD + base64.b64encode(random_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `id.timestamp.body`."""
    key = base64.b64decode(secret.removeprefix(SECRET_LEAD))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers_of(delivery: WebhookDelivery, now: float) -> dict[str, str]:
    """The headers of one attempt."""
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
    """What of a batch goes to these subscriptions, in order, one event at a time."""
    for event in before.sequence().read(batch):
        for subscription in subscriptions.values():
            if is_wanted(event["type"], subscription.types):
                yield WebhookDelivery(
                    f"{subscription.id}.{batch.run_id}.{event['seq']}",
                    subscription,
                    orjson.dumps(shown(event)),
                    batch.run_id,
                    batch.request_id,
                    batch.session_id,
                )


def after(batch: EventBatch, before: StreamPosition) -> StreamPosition:
    """What a reader knows after a batch, without reading its events one by one."""
    last = before.runs if batch.source == "runs" else before.groups
    fresh = [entry for entry in batch.entries if entry.cause > last]
    if not fresh:
        return before
    count = sum(1 if each.spans is None else sum(stop - start for start, stop in each.spans) for each in fresh)
    known = replace(before, seq=before.seq + count)
    cause = max(last, batch.entries[-1].cause)
    return replace(known, runs=cause) if batch.source == "runs" else replace(known, groups=cause)
