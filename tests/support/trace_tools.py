"""Spans that a system emitted, and checks of their structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from anabranch.adapters.otel.telemetry import OpenTelemetry

PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PRODUCER_SPAN = 0x00F067AA0BA902B7


class Traced:
    """Telemetry that keeps its spans. `spans` are those emitted so far, by their start."""

    def __init__(self, sampler: Sampler | None = None, *, measures: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        self.telemetry = OpenTelemetry(
            "test", "0", measures=measures, spans=SimpleSpanProcessor(self._exporter), sampler=sampler
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, span.name))

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        [found] = [span for span in self.spans if span.name == name]
        return found

    def named(self, prefix: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(prefix)]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def links_of(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def content_of(span: ReadableSpan) -> Any:
    """All fields of a span for a collector except its source, for comparison."""
    assert span.context is not None
    return (
        span.name,
        span.context.trace_id,
        span.context.span_id,
        parent_of(span),
        span.start_time,
        span.end_time,
        tuple(sorted(attributes_of(span).items())),
        tuple(link.context.span_id for link in span.links),
        span.status.status_code,
        span.status.description,
    )


def check_tree(spans: Sequence[ReadableSpan], root_parent: int | None) -> None:
    """Check that they are one trace: parents and links exist, and no span is outside of its parent's time."""
    by_id = {id_of(span): span for span in spans}
    assert len(by_id) == len(spans), "a span was emitted twice"
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    for span in spans:
        assert links_of(span) <= by_id.keys(), span.name
        parent = parent_of(span)
        if parent == root_parent:
            continue
        assert parent in by_id, f"the parent of {span.name} is missing"
        above = by_id[parent]
        assert span.start_time is not None
        assert span.end_time is not None
        assert (above.start_time or 0) <= span.start_time <= span.end_time <= (above.end_time or 0), span.name
