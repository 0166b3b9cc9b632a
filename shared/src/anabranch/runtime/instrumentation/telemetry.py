"""Which telemetry a process has: none, unless it has a health port or the standard OTEL_* variables ask for it.

OpenTelemetry's SDK is imported only where it is used.
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
    """See `ports.Telemetry`: nobody is told."""

    measures = False

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Nobody counts."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Nobody counts."""

    def show(self, metric: Metric, values: Mapping[tuple[str, ...], float], *, part: str = "") -> None:
        """Nobody looks."""

    def wants(self, trace: RunTrace) -> bool:
        return False

    def emit(self, span: Span) -> None:
        """Nobody listens."""

    def exposition(self) -> bytes:
        return b""

    def adopt(self) -> None:
        """Tracers of agents stay what they are."""

    def close(self) -> None:
        """Nothing is left."""


NO_TELEMETRY: Telemetry = NoTelemetry()


@dataclass(frozen=True, slots=True)
class TelemetryOptions:
    """What a process is to tell: metrics as text, metrics by OTLP, spans by OTLP."""

    text: bool
    metrics: bool
    spans: bool

    def __bool__(self) -> bool:
        return self.text or self.metrics or self.spans


def wanted(environ: Mapping[str, str], *, text: bool) -> TelemetryOptions:
    """What the standard variables say: OTLP where there is an endpoint, unless an exporter other than it is named.

    Args:
        text: whether there is a port where Prometheus may ask.
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
        Misconfigured: it asks for telemetry, and the extra is not installed.
    """
    if wanted(environ, text=text):
        with needs_extra("telemetry", "telemetry (a health port, or an OTEL_* variable)"):
            importlib.import_module("anabranch.adapters.otel.telemetry")


def open_telemetry(
    service: str, environ: Mapping[str, str], *, text: bool, instance: str | None = None
) -> Telemetry:
    """The telemetry of one process; `environ` has to be its own, for OpenTelemetry reads the rest of it there.

    Args:
        service: its `service.name`, unless OTEL_SERVICE_NAME says another.
        text: whether there is a port where Prometheus may ask.
    """
    found = wanted(environ, text=text)
    if not found:
        return NO_TELEMETRY
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            _log.warning("%s is %s; http/protobuf is what is spoken here", name, environ[name])
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
    """Tell what is left. A collector that does not answer holds up nobody's end."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await asyncio.to_thread(telemetry.close)
    except TimeoutError:
        _log.warning("telemetry was not taken within %g s; the rest of it is left out", CLOSE_SECONDS)
