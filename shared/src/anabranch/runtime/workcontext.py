"""On whose behalf code runs: ids for log lines, and the trace for whatever an agent calls. Held by context variables.

Whoever runs code for a run says so here, once for many members; nothing is looked up where nobody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from anabranch.core.tracing import RunTrace

_IDS: ContextVar[Mapping[str, str]] = ContextVar("anabranch_work", default=MappingProxyType({}))


def work_ids() -> Mapping[str, str]:
    """The ids that a log line is to carry: `run`, `group`, `task`, `trace_id`, those that are known."""
    return _IDS.get()


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
