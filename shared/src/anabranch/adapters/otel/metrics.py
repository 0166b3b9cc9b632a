"""The metrics of `core.telemetry` as OpenTelemetry instruments, and in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from anabranch.core.telemetry import METRICS, Metric

SCOPE = "anabranch"
SHUTDOWN_MS = 3_000

Labels = tuple[str, ...]
"""Values of a metric's labels, in order."""


class Instruments:
    """An instrument for each metric of the registry.

    Counters are kept here and read at each export: those of the SDK take ten microseconds for each addition.

    Args:
        pushed: further readers, which push to a collector.
    """

    def __init__(self, resource: Resource, pushed: Sequence[MetricReader] = ()) -> None:
        # A separate registry, not the global one, because several services may share one process.
        self._registry = CollectorRegistry()
        text = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        # Closed by the process, within a time limit, which the SDK's exit handler does not have.
        self._provider = MeterProvider([text, *pushed], resource, shutdown_on_exit=False)
        self._lock = threading.Lock()
        self._counted: dict[str, dict[Labels, float]] = {}
        self._shown: dict[str, dict[str, Mapping[Labels, float]]] = {}
        self._histograms: dict[str, Histogram] = {}
        meter = self._provider.get_meter(SCOPE)
        for each in METRICS:
            self._create(meter, each)

    def _create(self, meter: Meter, metric: Metric) -> None:
        description = (metric.unit, metric.about)
        if metric.kind == "counter":
            self._counted[metric.name] = {}
            meter.create_observable_counter(
                metric.name, [partial(self._read, self._counts_of, metric)], *description
            )
        elif metric.kind == "gauge":
            meter.create_observable_gauge(metric.name, [partial(self._read, self._shown_of, metric)], *description)
        else:
            self._histograms[metric.name] = meter.create_histogram(
                metric.name, *description, explicit_bucket_boundaries_advisory=metric.buckets
            )

    def count(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        values = tuple([labels[name] for name in metric.labels])
        with self._lock:
            counted = self._counted[metric.name]
            counted[values] = counted.get(values, 0) + amount

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        self._histograms[metric.name].record(value, labels)

    def show(self, metric: Metric, values: Mapping[Labels, float], part: str) -> None:
        with self._lock:
            self._shown.setdefault(metric.name, {})[part] = values

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def close(self) -> None:
        self._provider.shutdown(SHUTDOWN_MS)

    def _counts_of(self, metric: Metric) -> Mapping[Labels, float]:
        with self._lock:
            return dict(self._counted[metric.name])

    def _shown_of(self, metric: Metric) -> Mapping[Labels, float]:
        with self._lock:
            parts = list(self._shown.get(metric.name, {}).values())
        return {labels: value for part in parts for labels, value in part.items()}

    def _read(
        self, source: Callable[[Metric], Mapping[Labels, float]], metric: Metric, options: CallbackOptions
    ) -> Iterable[Observation]:
        for values, value in source(metric).items():
            yield Observation(value, dict(zip(metric.labels, values, strict=True)))
