"""Telemetry by OpenTelemetry's SDK: Prometheus text, and OTLP over HTTP."""
