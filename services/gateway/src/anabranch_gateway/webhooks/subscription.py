"""A subscription as data: which events go where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import orjson
from pydantic import TypeAdapter

from anabranch.core.limit_addresses import ALL_PROJECTS
from anabranch.core.wire.events import EventBatch
from anabranch_gateway.webhooks.alert_rules import BUILT_IN, AlertRule

Kind = Literal["webhook", "channel", "notify"]
KINDS: tuple[Kind, ...] = ("webhook", "channel", "notify")
Format = Literal["events", "alertmanager", "alertmanager-api"]
FORMATS: tuple[Format, ...] = ("events", "alertmanager", "alertmanager-api")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events of a project are sent to which target.

    Attributes:
        target: the URL of a webhook, the Redis channel, or the name of a configured service for messages.
        types: event types, `run.*` for all of a kind; empty for all events.
        owner: the actor who subscribed.
        created_at: seconds since the epoch; earlier events are not sent.
        run_id, session_id: send only events of this run, of runs of this session.
        secret: signs the deliveries of a webhook.
        format: of a webhook's body. Notifications are of alerts too.
        rules: of alerts, in place of the built-in ones.
    """

    id: str
    kind: Kind
    target: str
    types: tuple[str, ...]
    project: str
    owner: str
    created_at: float
    run_id: str | None = None
    session_id: str | None = None
    secret: str | None = None
    format: Format = "events"
    rules: tuple[AlertRule, ...] = ()

    @property
    def is_delivered(self) -> bool:
        """True if the gateway delivers it, not the event manager."""
        return self.kind != "channel"

    @property
    def alert_rules(self) -> Sequence[AlertRule]:
        """The rules of a subscription to alerts; none of a subscription to events."""
        if self.kind != "notify" and self.format == "events":
            return ()
        return self.rules or BUILT_IN

    def matches(self, batch: EventBatch, project: str, at: float) -> bool:
        """True if the target may get events of a batch, whose record has the time `at`; types are not checked.
        Breakers are of all projects."""
        # The time is checked, because a new owner of a partition reads records from before the subscription.
        return (
            self.is_delivered
            and at >= self.created_at
            and project in (self.project, ALL_PROJECTS)
            and self.run_id in (None, batch.run_id)
            and self.session_id in (None, batch.session_id)
        )

    def encode(self) -> bytes:
        """The value of the subscription's record on the topic, with the secret, which signing needs."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Decode a subscription from a record's value. Raises ValueError if the value is not a subscription."""
        return _STORED.validate_json(value, strict=True)  # type: ignore[return-value]

    def to_document(self, *, with_secret: bool = False) -> dict[str, Any]:
        """The document that callers see; with the secret only in the response to its creation."""
        target = {_TARGETS[self.kind]: self.target}
        document = {
            "id": self.id,
            "kind": self.kind,
            **target,
            "types": list(self.types),
            "project": self.project,
            "run_id": self.run_id,
            "session_id": self.session_id,
            "owner": self.owner,
            "created_at": self.created_at,
            "format": self.format,
            "rules": [asdict(each) for each in self.alert_rules],
        }
        return document | ({"secret": self.secret} if with_secret and self.secret else {})


_TARGETS = {"webhook": "url", "channel": "channel", "notify": "target"}
_STORED = TypeAdapter(Subscription)
