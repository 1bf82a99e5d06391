"""Makes sessions from what OpenTelemetry exports: spans and log records of OTLP."""
