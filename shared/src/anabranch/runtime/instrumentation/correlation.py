"""Correlation of code with the run it works for: ids for log lines, and the trace context for calls of an agent.

Both are in context variables, set once for many members and read only when a line is logged or a request is made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context, ContextVar
from types import MappingProxyType

from anabranch.core.tracing import RunTrace

Ids = Mapping[str, str]
"""The known ones of `run`, `group`, `task` and `trace_id`."""

_IDS: ContextVar[Ids | Callable[[], Ids]] = ContextVar("anabranch_work", default=MappingProxyType({}))


def work_ids() -> Ids:
    """The ids for log lines."""
    found = _IDS.get()
    return found() if callable(found) else found


def ids_of(message: object, traceparent: str | None) -> dict[str, str]:
    """The ids of a message, named as in `work_ids`. `traceparent` is its run's, used if the message has none."""
    found = {name: getattr(message, field, None) for name, field in _FIELDS}
    parent = getattr(message, "traceparent", None) or traceparent
    found["trace_id"] = parent[3:35] if parent is not None else None  # 00-<trace id>-<span id>-<flags>
    return {name: value for name, value in found.items() if value}


_FIELDS = (("run", "run_id"), ("group", "group"), ("task", "task"))


def working_for(**ids: str) -> AbstractContextManager[None]:
    """Replace the ids for log lines while the context is open."""
    # Replaced, not merged: ids of the message before must not appear in lines about this one.
    return _Working(ids)


def working_for_current(ids: Callable[[], Ids]) -> AbstractContextManager[None]:
    """Replace the ids for log lines while the context is open, by those that `ids` returns when a line is logged.
    For a loop over many messages, most of which log nothing."""
    return _Working(ids)


class _Working(AbstractContextManager[None]):
    """As a `contextmanager` around a generator, with half as many calls."""

    __slots__ = ("_ids", "_token")

    def __init__(self, ids: Ids | Callable[[], Ids]) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _IDS.set(self._ids)

    def __exit__(self, *failure: object) -> None:
        _IDS.reset(self._token)


def work_for(context: Context, ids: Mapping[str, str]) -> None:
    """Replace the ids for log lines in a context that is not entered."""
    context.run(_IDS.set, ids)


@contextmanager
def within_span(trace_id: int, span_id: int, *, sampled: bool) -> Iterator[None]:
    """Make spans that start in this context children of a span, which may be of another process."""
    # Imported on use: OpenTelemetry is optional, and slow to import.
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
def within_producer_span(trace: RunTrace) -> Iterator[None]:
    """Like `within_span`, with the span of the request's producer. Does nothing if it had none."""
    if trace.parent is None:
        yield
        return
    with within_span(trace.trace_id, trace.parent, sampled=bool(trace.sampled)):
        yield


def trace_headers() -> dict[str, str]:
    """HTTP headers with the `traceparent` of the current span; empty without one."""
    if "opentelemetry.trace" not in sys.modules:  # no span can exist then, and the import is slow
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers
