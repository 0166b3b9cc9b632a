"""Opens the telemetry of a process: none, unless it has a health port or a standard OTEL_* variable enables it.

OpenTelemetry's SDK is imported only if it is used.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from anabranch.core.telemetry import Metric
from anabranch.core.tracing import RunTrace, Span
from anabranch.ports import Telemetry
from anabranch.runtime.process.extras import needs_extra

CLOSE_SECONDS = 5.0

_log = logging.getLogger("anabranch.telemetry")


class NoTelemetry:
    """See `ports.Telemetry`; discards all metrics and spans."""

    measures = False

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Do nothing."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Do nothing."""

    def show(self, metric: Metric, values: Mapping[tuple[str, ...], float], *, part: str = "") -> None:
        """Do nothing."""

    def wants(self, trace: RunTrace) -> bool:
        return False

    def emit(self, span: Span) -> None:
        """Do nothing."""

    def exposition(self) -> bytes:
        return b""

    def adopt(self) -> None:
        """Do nothing: agents keep OpenTelemetry's default tracer."""

    def close(self) -> None:
        """Do nothing."""


NO_TELEMETRY: Telemetry = NoTelemetry()


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """Enabled exports of a process: `text` for metrics in Prometheus' format, `metrics` and `spans` for OTLP."""

    text: bool
    metrics: bool
    spans: bool

    def __bool__(self) -> bool:
        return self.text or self.metrics or self.spans


def wanted(environ: Mapping[str, str], *, text: bool) -> TelemetryOptions:
    """Read the standard OTEL_* variables: OTLP is enabled by an endpoint, unless another exporter is named.

    Args:
        text: whether the process has a port that Prometheus can scrape.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return TelemetryOptions(text=False, metrics=False, spans=False)
    return TelemetryOptions(text=text, metrics=_is_pushed(environ, "METRICS"), spans=_is_pushed(environ, "TRACES"))


def _is_pushed(environ: Mapping[str, str], signal: str) -> bool:
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = environ.get(f"OTEL_{signal}_EXPORTER", "").strip() or "otlp"
    return bool(endpoint) and "otlp" in exporters.split(",")


def import_telemetry(environ: Mapping[str, str], *, text: bool) -> None:
    """Import OpenTelemetry if the environment asks for telemetry.

    Raises:
        Misconfigured: telemetry is enabled, and the extra `telemetry` is not installed.
    """
    if wanted(environ, text=text):
        with needs_extra("telemetry", "telemetry (a health port, or an OTEL_* variable)"):
            importlib.import_module("anabranch.adapters.otel.telemetry")


def open_telemetry(
    service: str, environ: Mapping[str, str], *, text: bool, instance: str | None = None
) -> Telemetry:
    """The telemetry of one process. `environ` must be `os.environ`: OpenTelemetry reads further variables there.

    Args:
        service: the `service.name`, unless OTEL_SERVICE_NAME sets another.
        text: whether the process has a port that Prometheus can scrape.
    """
    found = wanted(environ, text=text)
    if not found:
        return NO_TELEMETRY
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            _log.warning("%s=%s is not supported; telemetry is exported with http/protobuf", name, environ[name])
    from anabranch.adapters.otel.telemetry import OpenTelemetry, otlp_metrics, otlp_spans

    return OpenTelemetry(
        service,
        version("anabranch"),
        measures=found.text or found.metrics,
        spans=otlp_spans() if found.spans else None,
        readers=[otlp_metrics()] if found.metrics else [],
        instance=instance,
    )


async def close_telemetry(telemetry: Telemetry) -> None:
    """Export the remaining telemetry and close it. A collector that does not respond delays the process by at most
    CLOSE_SECONDS."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            # In a thread, because the SDK blocks until the collector responds.
            await asyncio.to_thread(telemetry.close)
    except TimeoutError:
        _log.warning(
            "the collector did not accept the last telemetry within %g s: it is dropped, the process ends",
            CLOSE_SECONDS,
        )
