"""Reads OTLP as protobuf, with the classes of the package opentelemetry-proto."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lllm.events.errors import MissingExtra
from lllm.events.values.json_values import to_plain
from lllm.importing.otlp.signals import (
    OtlpRecord,
    OtlpSpanEvent,
    SignalError,
    Signals,
    Span,
    checked,
    time_or_error,
)

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as ProtoLog
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan


def require_protobuf() -> None:
    """Check that protobuf can be read.

    Raises:
        MissingExtra: The package opentelemetry-proto is not installed.
    """
    try:
        import opentelemetry.proto.collector.logs.v1.logs_service_pb2
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"OTLP as protobuf needs {error.name}, which is not installed: pip install 'lllm[otel]'"
        ) from error


def decode_traces(body: bytes) -> Signals:
    """Read a request with spans.

    Raises:
        SignalError: It is no such request.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except Exception:  # DecodeError, whose package has no types
        raise SignalError("it is no ExportTraceServiceRequest in protobuf") from None
    found = Signals(spans=[], logs=[], faults=[])
    for whole in request.resource_spans:
        resource = _attributes(whole.resource.attributes)
        for part in whole.scope_spans:
            for one in part.spans:
                try:
                    found.spans.append(
                        _span(one, resource, part.scope.name, part.scope.version, found.faults)
                    )
                except SignalError as error:
                    found.rejected_spans += 1
                    found.faults.append(
                        f"span {one.name[:80]!r} ({one.span_id.hex() or 'without an id'}): "
                        f"{error}; it is left out"
                    )
    return found


def decode_logs(body: bytes) -> Signals:
    """Read a request with log records.

    Raises:
        SignalError: It is no such request.
    """
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    try:
        request = ExportLogsServiceRequest.FromString(body)
    except Exception:  # DecodeError, whose package has no types
        raise SignalError("it is no ExportLogsServiceRequest in protobuf") from None
    found = Signals(spans=[], logs=[], faults=[])
    for whole in request.resource_logs:
        resource = _attributes(whole.resource.attributes)
        for part in whole.scope_logs:
            for one in part.log_records:
                try:
                    found.logs.append(_log(one, resource, part.scope.name))
                except SignalError as error:
                    found.rejected_logs += 1
                    found.faults.append(
                        f"a log record of {part.scope.name or 'no scope'}: {error}; it is left out"
                    )
    return found


def _span(
    one: ProtoSpan, resource: dict[str, object], scope: str, version: str, faults: list[str]
) -> Span:
    return checked(
        Span(
            trace_id=one.trace_id.hex(),
            span_id=one.span_id.hex(),
            parent_id=one.parent_span_id.hex(),
            name=one.name,
            start=one.start_time_unix_nano,
            end=one.end_time_unix_nano,
            attributes=_attributes(one.attributes),
            events=tuple(
                OtlpSpanEvent(event.name, event.time_unix_nano, _attributes(event.attributes))
                for event in one.events
            ),
            status=one.status.code,
            status_message=one.status.message,
            scope=scope,
            scope_version=version,
            resource=resource,
            kind=one.kind,
        ),
        faults,
    )


def _log(one: ProtoLog, resource: dict[str, object], scope: str) -> OtlpRecord:
    attributes = _attributes(one.attributes)
    named = one.event_name or attributes.get("event.name")
    return OtlpRecord(
        time=time_or_error(one.time_unix_nano or one.observed_time_unix_nano, "time"),
        name=named if isinstance(named, str) else "",
        body=_value(one.body),
        attributes=attributes,
        trace_id=one.trace_id.hex(),
        span_id=one.span_id.hex(),
        scope=scope,
        resource=resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "double_value":
        return to_plain(value.double_value)
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return None
