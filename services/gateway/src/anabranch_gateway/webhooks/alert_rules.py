"""The rules that turn events into alerts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOUR = 3_600.0
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Which events raise an alert, and which resolve it.

    Attributes:
        alert: its name, the label `alertname`.
        on: types of the events that raise it, `run.*` for all of a kind.
        resolved_by: types of the events that resolve it, about the same run, task, schedule or agent.
        when: a condition over the fields of an event of `on`, in its data form.
        labels: further labels; they are a part of the alert's identity.
        annotations: templates, filled in from the event's fields and the alert's labels.
        expires: seconds after which an alert ends that no event has resolved.
    """

    alert: str
    on: tuple[str, ...]
    resolved_by: tuple[str, ...] = ()
    when: Any = True
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    expires: float = HOUR


BUILT_IN = (
    AlertRule(
        "AnabranchRunFailed",
        on=("run.failed", "run.timed_out"),
        labels={"severity": "critical"},
        annotations={
            "summary": "Run {run_id} ended as {status}",
            "description": "`anabranch why {run_id}` tells why; `anabranch retry {run_id}` repeats it.",
        },
    ),
    AlertRule(
        "AnabranchBreakerOpen",
        on=("breaker.opened",),
        resolved_by=("breaker.closed",),
        labels={"severity": "warning"},
        annotations={
            "summary": "The breaker of the agent {agent} is open",
            "description": "Its members wait until {until}; then a probe decides.",
        },
        expires=7 * DAY,
    ),
    AlertRule(
        "AnabranchScheduleMissed",
        on=("schedule.missed",),
        resolved_by=("schedule.fired",),
        labels={"severity": "warning"},
        annotations={
            "summary": "The schedule {schedule} did not start the run of {at}",
            "description": "Reason: {reason}. `anabranch schedules show {schedule}` shows the last firings.",
        },
        expires=7 * DAY,
    ),
)
"""The rules of a subscription that has none of its own."""
