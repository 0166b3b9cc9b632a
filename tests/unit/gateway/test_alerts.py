"""Alerts: which events raise and resolve them, their identity, and the two forms of Alertmanager."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from anabranch_gateway.webhooks.alert_rules import BUILT_IN, DAY, HOUR, AlertRule
from anabranch_gateway.webhooks.alerts import Alert, alerts_of, body_of, text_of

AT = 1_790_000_000.0
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ALERT = {
    "type": "object",
    "required": ["labels"],
    "properties": {
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "startsAt": {"type": "string", "format": "date-time"},
        "endsAt": {"type": "string", "format": "date-time"},
        "generatorURL": {"type": "string"},
    },
}
API_SCHEMA = {"type": "array", "items": {**_ALERT, "additionalProperties": False}}
"""What Alertmanager's API takes: `postableAlerts` of its OpenAPI document."""


def event(kind: str, **fields: Any) -> dict[str, Any]:
    about = {"group": None, "task": None, "index": None, "attempt": None}
    return {"type": kind, "time": AT, "seq": 1, "run_id": "r1", **about, **fields}


def found(*events: dict[str, Any], rules: tuple[AlertRule, ...] = BUILT_IN) -> list[Alert]:
    return [alert for each in events for alert in alerts_of(each, "shop", rules)]


def test_a_failed_run_is_an_alert_that_ends_by_itself() -> None:
    [alert] = found(event("run.failed", status="failed"))

    assert alert.labels == {
        "alertname": "AnabranchRunFailed",
        "severity": "critical",
        "project": "shop",
        "run_id": "r1",
    }
    assert alert.annotations["summary"] == "Run r1 ended as failed"
    assert (alert.status, alert.starts_at, alert.ends_at) == ("firing", AT, AT + HOUR)


def test_the_event_that_resolves_an_alert_gives_its_fingerprint() -> None:
    opened = event("breaker.opened", agent="mail", until="2030-01-01T00:00:00Z", project="*")
    closed = event("breaker.closed", agent="mail", project="*") | {"time": AT + 60, "run_id": "r1"}
    first, last = found(opened, closed)

    assert first.fingerprint == last.fingerprint
    assert "run_id" not in first.labels, "the address of a breaker is no run"
    assert (first.status, first.ends_at) == ("firing", AT + 7 * DAY)
    assert (last.status, last.starts_at, last.ends_at) == ("resolved", AT + 60, AT + 60)
    assert "description" not in last.annotations, "its event does not say until when"


def test_alerts_about_different_things_have_different_fingerprints() -> None:
    agents = [event("breaker.opened", agent=name) for name in ("mail", "sms")]
    runs = [event("run.failed") | {"run_id": name} for name in ("r1", "r2")]

    assert len({each.fingerprint for each in found(*agents, *runs)}) == 4


def test_a_rule_with_a_condition_takes_only_events_for_which_it_holds() -> None:
    condition = {"field": "error_type", "operator": "equals", "value": "OOMKilled"}
    rule = AlertRule(
        "OutOfMemory", on=("task.failed",), when=condition, annotations={"summary": "{task}: {message}"}
    )
    killed = event("task.failed", group="g", task="t", error_type="OOMKilled", message="no memory")
    other = event("task.failed", group="g", task="t", error_type="ValueError", message="no")

    [alert] = found(killed, other, rules=(rule,))

    assert alert.annotations == {"summary": "t: no memory"}
    assert (alert.labels["group"], alert.labels["task"]) == ("g", "t")


def test_a_condition_that_cannot_be_evaluated_hides_no_failure() -> None:
    condition = {"field": "no_such_field", "operator": "equals", "value": 1}
    [alert] = found(event("run.failed"), rules=(AlertRule("Failed", on=("run.*",), when=condition),))

    assert "no_such_field" in alert.annotations["condition_error"]


def test_a_long_message_is_cut() -> None:
    rule = AlertRule("Failed", on=("task.failed",), annotations={"description": "{message}"})
    [alert] = found(event("task.failed", task="t", message="ä" * 10_000), rules=(rule,))

    assert alert.annotations["description"] == "ä" * 4_096


def test_the_payload_of_a_webhook_is_that_of_alertmanager() -> None:
    [alert] = found(event("run.failed", status="failed"))

    payload = json.loads(body_of(alert, "alertmanager", "s1"))

    assert {name: payload[name] for name in ("version", "status", "receiver", "truncatedAlerts")} == {
        "version": "4",
        "status": "firing",
        "receiver": "s1",
        "truncatedAlerts": 0,
    }
    assert payload["groupLabels"] == {"alertname": "AnabranchRunFailed"}
    assert payload["groupKey"] == '{}:{alertname="AnabranchRunFailed"}'
    assert payload["commonLabels"] == alert.labels
    [shown] = payload["alerts"]
    assert shown["startsAt"] == "2026-09-21T14:13:20.000Z"
    assert shown["endsAt"] == "2026-09-21T15:13:20.000Z"
    assert shown["fingerprint"] == alert.fingerprint


@given(
    st.sampled_from(["run.failed", "run.timed_out", "breaker.opened", "breaker.closed", "schedule.missed"]),
    st.dictionaries(st.sampled_from(["agent", "schedule", "reason", "status", "group", "task"]), st.text()),
)
def test_any_event_becomes_what_the_api_takes(kind: str, fields: dict[str, str]) -> None:
    for alert in found(event(kind, **fields)):
        body = json.loads(body_of(alert, "alertmanager-api", "s1"))

        jsonschema.validate(body, API_SCHEMA)
        assert body[0]["startsAt"] <= body[0]["endsAt"]


def test_a_message_for_people_begins_with_the_state() -> None:
    title, text = text_of(found(event("run.failed", status="failed"))[0])

    assert title == "[FIRING] Run r1 ended as failed"
    assert text.splitlines() == [
        "`anabranch why r1` tells why; `anabranch retry r1` repeats it.",
        "alertname=AnabranchRunFailed, project=shop, run_id=r1, severity=critical",
    ]
