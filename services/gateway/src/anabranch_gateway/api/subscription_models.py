"""Shapes of the bodies about subscriptions and alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from anabranch.core.conditions import Condition
from anabranch.core.request.fields import Duration
from anabranch_gateway.api.models import ClosedModel, OpenModel, Seconds
from anabranch_gateway.webhooks.alert_rules import DAY, HOUR, AlertRule

MAX_TYPES = 50
MAX_RULES = 50
MAX_LABELS = 20
MAX_EXPIRES = 30 * DAY
RESERVED = frozenset({"alertname", "project", "run_id", "group", "task", "agent", "schedule"})
"""Labels that every alert has by itself, as far as its event does."""

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.([a-z_]+|\*)$", max_length=100)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100)]
Text = Annotated[str, StringConstraints(max_length=2_000)]


class AlertRuleBody(ClosedModel):
    """A rule that turns events into alerts."""

    alert: LabelName = Field(description="Name of the alert, its label `alertname`")
    on: list[EventType] = Field(min_length=1, max_length=MAX_TYPES, description="Event types that raise it")
    resolved_by: list[EventType] = Field(
        default=[], max_length=MAX_TYPES, description="Types of events about the same thing that resolve it"
    )
    when: Condition = Field(default=True, description="A condition over the fields of the event")
    labels: dict[LabelName, Text] = Field(default={}, max_length=MAX_LABELS)
    annotations: dict[LabelName, Text] = Field(
        default={}, max_length=MAX_LABELS, description="Templates, with the event's fields as placeholders"
    )
    expires: Duration | None = Field(
        default=None, description="When it ends if no event resolves it; default 1h, with `resolved_by` 7d"
    )

    @field_validator("labels")
    @classmethod
    def _not_reserved(cls, labels: dict[str, str]) -> dict[str, str]:
        if taken := sorted(RESERVED & labels.keys()):
            raise ValueError(f"the label {taken[0]} is set by the event")
        return labels

    @field_validator("expires")
    @classmethod
    def _within_bounds(cls, expires: float | None) -> float | None:
        if expires is not None and not 1 <= expires <= MAX_EXPIRES:
            raise ValueError("must be 1 second to 30 days")
        return expires

    def rule(self) -> AlertRule:
        """The rule as the gateway keeps it."""
        expires = self.expires if self.expires is not None else 7 * DAY if self.resolved_by else HOUR
        return AlertRule(
            self.alert,
            tuple(self.on),
            tuple(self.resolved_by),
            self.when,
            self.labels,
            self.annotations,
            expires,
        )


class SubscriptionBody(ClosedModel):
    kind: Literal["webhook", "channel", "notify"]
    url: str | None = Field(default=None, description="Webhook: the URL to which events are sent by POST")
    channel: str | None = Field(
        default=None, description="Channel: the Redis channel to which events are forwarded"
    )
    target: str | None = Field(
        default=None, description="Notify: the name of a service of the gateway's configuration"
    )
    format: Literal["events", "alertmanager", "alertmanager-api"] | None = Field(
        default=None,
        description="Webhook: of its bodies; with `alertmanager` the payload that Alertmanager sends to webhooks, "
        "with `alertmanager-api` the one that its own API takes",
    )
    rules: list[AlertRuleBody] | None = Field(
        default=None, max_length=MAX_RULES, description="Of alerts, in place of the built-in ones"
    )
    types: list[str] | None = Field(
        default=None, description="Event types, `run.*` for all of a kind, which is the default; not for alerts"
    )
    run_id: str | None = None
    session_id: str | None = None
    project: str | None = None


class SubscriptionDocument(OpenModel):
    id: str
    kind: Literal["webhook", "channel", "notify"]
    types: list[str]
    project: str
    run_id: str | None
    session_id: str | None
    owner: str
    created_at: Seconds
    format: Literal["events", "alertmanager", "alertmanager-api"]
    rules: list[AlertRuleBody]


class SubscriptionList(OpenModel):
    subscriptions: list[SubscriptionDocument]
