"""The Telemetry port on OpenTelemetry's SDK. The standard OTEL_ variables configure exporters and endpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from opentelemetry import trace as api
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from anabranch.adapters.otel.metrics import Instruments
from anabranch.adapters.otel.spans import parent_context, readable
from anabranch.core.telemetry import Metric
from anabranch.core.tracing import RunTrace, Span

_log = logging.getLogger("anabranch.telemetry")


class OpenTelemetry:
    """See `ports.Telemetry`.

    Args:
        spans: processor of every exported span, including those of agents; None exports no spans.
        sampler: overrides OTEL_TRACES_SAMPLER.
    """

    def __init__(
        self,
        service: str,
        version: str,
        *,
        measures: bool = True,
        spans: SpanProcessor | None = None,
        readers: Sequence[MetricReader] = (),
        sampler: Sampler | None = None,
        instance: str | None = None,
    ) -> None:
        named = {SERVICE_NAME: service, SERVICE_VERSION: version}
        if instance is not None:
            named[SERVICE_INSTANCE_ID] = instance
        # The environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) overrides these attributes.
        self._resource = Resource.create({**named, **OTELResourceDetector().detect().attributes})
        self._scope = InstrumentationScope("anabranch", version)
        self._instruments = Instruments(self._resource, readers) if measures else None
        self._spans = spans
        self.provider = TracerProvider(sampler, self._resource, shutdown_on_exit=False)
        if spans is not None:
            self.provider.add_span_processor(spans)

    # --- metrics -----------------------------------------------------------------------------------

    @property
    def measures(self) -> bool:
        return self._instruments is not None

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        if self._instruments is not None:
            self._instruments.count(metric, amount, labels)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        if self._instruments is not None:
            self._instruments.observe(metric, value, labels)

    def show(self, metric: Metric, values: Mapping[tuple[str, ...], float], *, part: str = "") -> None:
        if self._instruments is not None:
            self._instruments.show(metric, values, part)

    def exposition(self) -> bytes:
        return self._instruments.exposition() if self._instruments is not None else b""

    # --- spans -------------------------------------------------------------------------------------

    def wants(self, trace: RunTrace) -> bool:
        if self._spans is None:
            return False
        parent = parent_context(trace)
        context = set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
        decided = self.provider.sampler.should_sample(context, trace.trace_id, "run").decision
        return decided is Decision.RECORD_AND_SAMPLE

    def emit(self, span: Span) -> None:
        if self._spans is not None:
            self._spans.on_end(readable(span, self._resource, self._scope))

    def adopt(self) -> None:
        if self._spans is None:
            return
        if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
            api.set_tracer_provider(self.provider)
        else:
            _log.info("this process has set up its own OpenTelemetry provider: spans of agents are exported there")

    def close(self) -> None:
        self.provider.shutdown()
        if self._instruments is not None:
            self._instruments.close()


def otlp_spans() -> SpanProcessor:
    """Exports spans by OTLP over HTTP, in batches from a separate thread, to the endpoint of the OTEL_
    variables."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())


def otlp_metrics() -> MetricReader:
    """Exports metrics by OTLP over HTTP, every OTEL_METRIC_EXPORT_INTERVAL."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return PeriodicExportingMetricReader(OTLPMetricExporter())
