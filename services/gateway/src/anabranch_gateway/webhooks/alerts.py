"""Turns events into alerts in the two forms of Alertmanager: what it sends to webhooks, and what its API takes.
Pure.

Nothing is kept between events. An alert's identity is its labels, so the event that resolves an alert gives the
same fingerprint as the one that raised it. An alert that no event resolves has its end in `endsAt` from the start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from anabranch.core.conditions import evaluate
from anabranch.core.errors import ConditionError
from anabranch.core.templates import compile_template, unresolved
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.events import is_wanted
from anabranch_gateway.webhooks.alert_rules import AlertRule

AlertFormat = Literal["alertmanager", "alertmanager-api"]
ALERT_FORMATS: tuple[AlertFormat, ...] = ("alertmanager", "alertmanager-api")

VERSION = "4"
"""Of the payload that Alertmanager sends to webhooks."""
MAX_ANNOTATION = 8_192
"""Bytes of a filled-in annotation, which may have an error's message in it."""
CONDITION_ERROR = "condition_error"
_IDENTITY = ("run_id", "group", "task", "agent", "schedule")
"""Fields of an event that say what it is about, as far as it has them."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that an event raises or resolves.

    `starts_at` and `ends_at` are seconds since the epoch. Of a resolved alert only the end is known: the alert
    that was raised has the start.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    is_resolved: bool
    starts_at: float
    ends_at: float

    @property
    def fingerprint(self) -> str:
        """The identity of the alert: 16 hexadecimal digits of a hash of its labels."""
        return hashlib.sha256(orjson.dumps(sorted(self.labels.items()))).hexdigest()[:16]

    @property
    def status(self) -> Literal["firing", "resolved"]:
        return "resolved" if self.is_resolved else "firing"


def alerts_of(event: Mapping[str, Any], project: str, rules: Sequence[AlertRule]) -> Iterator[Alert]:
    """The alerts that an event raises or resolves, in the order of the rules.

    A condition that cannot be evaluated raises the alert all the same, with the reason as an annotation: a wrong
    rule must not hide a failure.

    Args:
        event: its fields, with the time in seconds since the epoch.
        project: of the subscription.
    """
    for rule in rules:
        if rule.resolved_by and is_wanted(event["type"], rule.resolved_by):
            yield _alert(rule, event, project, is_resolved=True)
        elif is_wanted(event["type"], rule.on):
            try:
                holds, problem = evaluate(rule.when, event), None
            except ConditionError as error:
                holds, problem = True, str(error)
            if holds:
                yield _alert(rule, event, project, is_resolved=False, problem=problem)


def _alert(
    rule: AlertRule, event: Mapping[str, Any], project: str, *, is_resolved: bool, problem: str | None = None
) -> Alert:
    labels = {"alertname": rule.alert, "project": project, **rule.labels, **_identity(event)}
    scope = {**event, **labels, "time": rfc3339(event["time"])}
    templates = {name: compile_template(text) for name, text in rule.annotations.items()}
    annotations = {
        name: _shortened(template.render(scope))
        for name, template in templates.items()
        # The event that resolves an alert does not have all fields of the one that raised it.
        if not is_resolved or not any(unresolved(template, scope))
    }
    if problem is not None:
        annotations[CONDITION_ERROR] = _shortened(problem)
    ends_at = event["time"] if is_resolved else event["time"] + rule.expires
    return Alert(labels, annotations, is_resolved, event["time"], ends_at)


def _identity(event: Mapping[str, Any]) -> dict[str, str]:
    found = {name: str(event[name]) for name in _IDENTITY if event.get(name) is not None}
    # Events of schedules and agents have an address in place of a run id.
    if "agent" in found or "schedule" in found:
        found.pop("run_id", None)
    return found


def _shortened(text: str) -> str:
    return text.encode("utf-8", "replace")[:MAX_ANNOTATION].decode("utf-8", "ignore")


def body_of(alert: Alert, form: AlertFormat, receiver: str) -> bytes:
    """The body of the POST that reports an alert.

    Args:
        receiver: named in the payload of a webhook: the id of the subscription.
    """
    dates = {"startsAt": rfc3339(alert.starts_at), "endsAt": rfc3339(alert.ends_at)}
    known = {"labels": alert.labels, "annotations": alert.annotations, **dates}
    if form == "alertmanager-api":
        return orjson.dumps([known])
    group = {"alertname": alert.labels["alertname"]}
    return orjson.dumps(
        {
            "version": VERSION,
            "groupKey": f'{{}}:{{alertname="{group["alertname"]}"}}',
            "truncatedAlerts": 0,
            "status": alert.status,
            "receiver": receiver,
            "groupLabels": group,
            "commonLabels": alert.labels,
            "commonAnnotations": alert.annotations,
            "externalURL": "",
            "alerts": [{"status": alert.status, **known, "generatorURL": "", "fingerprint": alert.fingerprint}],
        }
    )


def text_of(alert: Alert) -> tuple[str, str]:
    """Title and text of a message about an alert, for people."""
    summary = alert.annotations.get("summary") or alert.labels["alertname"]
    rest = [text for name, text in sorted(alert.annotations.items()) if name != "summary"]
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()))
    return f"[{alert.status.upper()}] {summary}", "\n".join((*rest, labels))
