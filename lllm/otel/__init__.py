"""Sends what a store has recorded to OpenTelemetry backends, as spans and log records."""

from lllm.otel.settings import OtelExport as OtelExport

__all__ = ["OtelExport"]
