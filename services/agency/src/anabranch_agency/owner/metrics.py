"""Metrics and spans of the turns of a run's owner. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import get_args

from anabranch.core import telemetry as names
from anabranch.core.limit_addresses import LimitKind
from anabranch.core.tracing import Attribute, RunTrace, Span, run_span, trace_of
from anabranch.core.wire.messages import Status
from anabranch.ports import Telemetry
from anabranch.runtime.ownership.effects import Count, Effect, Emit, Lag
from anabranch_agency.run.state import PartitionState, Run
from anabranch_agency.run.turn import Turn

_KINDS: tuple[str, ...] = get_args(LimitKind)
_HELD = tuple(kind for kind in _KINDS if kind != "rate")
"""What a rate has granted is not given back."""


def spans_of(turn: Turn, telemetry: Telemetry) -> Iterator[Effect]:
    """The spans of the runs that ended in a turn, if their traces are sampled."""
    for run, status in turn.ended:
        trace = trace_of(run.run_id, run.traceparent)
        if telemetry.wants(trace):
            yield Emit(span_of_run(run, status, trace, turn.at))


def counts_of(turn: Turn) -> Iterator[Effect]:
    """The counters and durations of a turn."""
    accepted = sum(event.entry.type == "run.accepted" for event in turn.events)
    if accepted:
        yield Count(names.RUNS_ACCEPTED, accepted)
    for run, status in turn.ended:
        yield Count(names.RUNS_ENDED, 1, (("status", status),))
        yield Lag(names.RUN_DURATION, run.tombstone.accepted_at, (("status", status),))


def show_limits(telemetry: Telemetry, states: Iterable[PartitionState], now: float) -> None:
    """Set the gauges of the limits that this process owns. Kinds and states are the labels, because keys are of
    users, and may be many. `now` is in seconds since the epoch."""
    held, waiting = dict.fromkeys(_HELD, 0), dict.fromkeys(_KINDS, 0)
    phases = {"open": 0, "half_open": 0}
    for limit in chain.from_iterable(state.limits.values() for state in states):
        kind = limit.rule.kind
        if kind in held:
            held[kind] += limit.held
        waiting[kind] += sum(wish.amount - wish.granted for wish in limit.wishes.values())
        if limit.breaker is not None and limit.breaker.phase != "closed":
            # One that nobody asks stays `open` after its time: the next member is a probe.
            is_open = limit.breaker.phase == "open" and limit.breaker.until > now
            phases["open" if is_open else "half_open"] += 1
    for metric, counted in ((names.LIMITS_HELD, held), (names.LIMITS_WAITING, waiting), (names.BREAKERS, phases)):
        telemetry.show(metric, {(label,): count for label, count in counted.items()})


def span_of_run(run: Run, status: Status, trace: RunTrace, at: float) -> Span:
    """The span of a run that ended at `at`, a child of the producer's span."""
    attributes: dict[str, Attribute] = {
        names.RUN_ID: run.run_id,
        names.SESSION_ID: run.session_id,
        names.REQUEST_ID: run.request_id,
        names.STATUS: status,
        names.MEMBERS: run.counts.total,
        names.COMPLETED: run.counts.completed,
        names.FAILED: run.counts.failed,
        names.SKIPPED: run.counts.skipped,
        **_request(run.origin),
    }
    if run.name is not None:
        attributes[names.RUN_NAME] = run.name
    if run.retry_of is not None:
        attributes[names.RETRY_OF] = run.retry_of
    return Span(
        name=f"run {run.name or run.request_id}",
        trace_id=trace.trace_id,
        span_id=run_span(run.run_id),
        parent=trace.parent,
        start=run.tombstone.accepted_at,
        end=at,
        attributes=attributes,
        kind="consumer",
        error=f"the run {status}" if status in ("failed", "timed_out") else None,
    )


def _request(origin: str) -> Mapping[str, Attribute]:
    """The position of the request, by the semantic conventions of OpenTelemetry for messaging."""
    topic, partition, offset = origin.rsplit("/", 2) if origin.count("/") >= 2 else ("", "", "")
    if not topic or not offset.isdigit():
        return {}
    return {
        names.MESSAGING_SYSTEM: "kafka",
        names.MESSAGING_OPERATION: "process",
        names.MESSAGING_DESTINATION: topic,
        names.MESSAGING_PARTITION: partition,
        names.MESSAGING_OFFSET: int(offset),
    }
