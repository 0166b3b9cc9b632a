"""Metrics and spans of the turns of a run's owner. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from anabranch.core import telemetry as names
from anabranch.core.tracing import Attribute, RunTrace, Span, run_span, trace_of
from anabranch.core.wire.messages import Status
from anabranch.ports import Telemetry
from anabranch.runtime.ownership.effects import Count, Effect, Emit, Lag
from anabranch_agency.run.state import Run
from anabranch_agency.run.turn import Turn


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
