"""On whose behalf code runs: ids for log lines, and the trace for whatever an agent calls.

Both are held by context variables. Whoever runs code for a run says so here, once for many members; nothing is
looked up where nobody asks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from anabranch.core.tracing import RunTrace

_IDS: ContextVar[Mapping[str, str]] = ContextVar("anabranch_work", default=MappingProxyType({}))


def work_ids() -> Mapping[str, str]:
    """The ids that a log line is to carry: `run`, `group`, `task`, `trace_id`, those that are known."""
    return _IDS.get()


def ids_of(message: object, traceparent: str | None) -> dict[str, str]:
    """What a message says of whose it is, by the names of `work_ids`; `traceparent` is its run's."""
    found = {name: getattr(message, field, None) for name, field in _FIELDS}
    said = getattr(message, "traceparent", None) or traceparent
    found["trace_id"] = said[3:35] if said is not None else None
    return {name: value for name, value in found.items() if value}


_FIELDS = (("run", "run_id"), ("group", "group"), ("task", "task"))


@contextmanager
def working_for(**ids: str) -> Iterator[None]:
    """Let log lines of this context carry these ids, instead of what they carried."""
    token = _IDS.set(ids)
    try:
        yield
    finally:
        _IDS.reset(token)


@contextmanager
def within_span(trace_id: int, span_id: int, *, sampled: bool) -> Iterator[None]:
    """Let spans that are begun in this context be children of a span, which need not be one of this process."""
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))
    token = attach(set_span_in_context(span))
    try:
        yield
    finally:
        detach(token)


@contextmanager
def within_producers(trace: RunTrace) -> Iterator[None]:
    """The same with the producer's span, handed on as it came; nothing where there was none."""
    if trace.parent is None:
        yield
        return
    with within_span(trace.trace_id, trace.parent, sampled=bool(trace.sampled)):
        yield


def trace_headers() -> dict[str, str]:
    """`traceparent` of whatever span this code runs within, for a request to somebody else; empty where there is
    none."""
    if "opentelemetry.trace" not in sys.modules:  # nobody has begun a span: that is cheaper than to ask
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers
