"""Converts spans to OpenTelemetry's spans, with their deterministic ids. Pure."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from anabranch.core.tracing import RunTrace, Span, SpanEvent

_KINDS = {"internal": SpanKind.INTERNAL, "consumer": SpanKind.CONSUMER}
_NANOSECONDS = 1_000_000_000


def readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """The span for exporters. It is marked as sampled, because callers only create sampled spans."""
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=None if span.parent is None else _context(span.trace_id, span.parent),
        resource=resource,
        attributes=dict(span.attributes),
        events=[_event(each) for each in span.events],
        links=[Link(_context(span.trace_id, each)) for each in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=_nanoseconds(span.start),
        # The clocks of two machines differ a little, and a span that ends before its start is refused.
        end_time=_nanoseconds(max(span.start, span.end)),
        instrumentation_scope=scope,
    )


def parent_context(trace: RunTrace) -> SpanContext | None:
    """The context of the producer's `traceparent`; None if there was none."""
    if trace.parent is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    return SpanContext(trace.trace_id, trace.parent, is_remote=True, trace_flags=flags)


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _event(event: SpanEvent) -> Event:
    return Event(event.name, dict(event.attributes), _nanoseconds(event.at))


def _nanoseconds(seconds: float) -> int:
    """Nanoseconds, rounded to microseconds: the precision of a float of this size."""
    return round(seconds * 1_000_000) * (_NANOSECONDS // 1_000_000)
