"""Encodes spans and log records as OTLP in protobuf, with the official definitions.

Each record is encoded once. A request is made of encoded records, so its size is known before it is
made, and a request that is too long is divided without encoding again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import pack

from lllm.events.errors import MissingExtra
from lllm.otel.otlp_format import Rejected, Resource, Signal
from lllm.otel.records import SEVERITY_TEXTS, Attributes, AttributeValue, LogRecord, SpanRecord
from lllm.version import __version__

try:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_service
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
    from opentelemetry.proto.common.v1 import common_pb2 as common
    from opentelemetry.proto.logs.v1 import logs_pb2 as logs
    from opentelemetry.proto.trace.v1 import trace_pb2 as trace
except ImportError as error:
    raise MissingExtra(
        "To send protobuf to OpenTelemetry backends, install the extra `otel`: "
        "pip install 'lllm[otel]'. JSON (protocol='http/json', or --file) does not need it."
    ) from error

# https://opentelemetry.io/docs/specs/otel/protocol/exporter/: bit 8 of the flags says that bit 9
# tells whether the parent is remote; bit 0 is the sampled flag of W3C trace contexts.
_SAMPLED, _KNOWS_PARENT, _REMOTE_PARENT = 0x1, 0x100, 0x200
_ERROR = trace.Status.STATUS_CODE_ERROR

# The number of the field `attributes` in each message.
_OF_RESOURCE = 1
_OF_LOG = 6
_OF_SPAN = 9
_OF_EVENT = 3
_OF_LINK = 4


class ProtobufFormat:
    """OTLP in protobuf; see `OtlpFormat`."""

    content_type = "application/x-protobuf"

    def __init__(self, about: Resource) -> None:
        scope = common.InstrumentationScope(name="lllm", version=__version__)
        self._scope = _framed(1, scope.SerializeToString())
        self._resource = _framed(1, _attributes(_OF_RESOURCE, about))

    def span(self, record: SpanRecord) -> bytes:
        """Encode a span; see `OtlpFormat.span`."""
        flags = _SAMPLED
        if record.parent is not None:
            flags |= _KNOWS_PARENT | (_REMOTE_PARENT if record.has_remote_parent else 0)
        span = trace.Span(
            trace_id=record.context.trace_id,
            span_id=record.context.span_id,
            parent_span_id=record.parent or b"",
            name=record.name,
            kind=record.kind,  # type: ignore[arg-type]  # the numbers are those of the definition
            start_time_unix_nano=record.start,
            end_time_unix_nano=record.end,
            dropped_attributes_count=record.dropped,
            flags=flags,
        )
        if record.error is not None:
            span.status.code = _ERROR
            span.status.message = record.error
        for link in record.links:
            added = span.links.add(trace_id=link.to.trace_id, span_id=link.to.span_id)
            added.MergeFromString(_attributes(_OF_LINK, link.attributes))
        for event in record.events:
            happened = span.events.add(name=event.name, time_unix_nano=event.time)
            happened.MergeFromString(_attributes(_OF_EVENT, event.attributes))
        encoded: bytes = span.SerializeToString()
        return encoded + _attributes(_OF_SPAN, record.attributes)

    def log(self, record: LogRecord) -> bytes:
        """Encode a log record; see `OtlpFormat.log`."""
        made = logs.LogRecord(
            time_unix_nano=record.time,
            observed_time_unix_nano=record.time,
            severity_number=record.severity,  # type: ignore[arg-type]
            severity_text=SEVERITY_TEXTS[record.severity],
            event_name=record.name,
            body=common.AnyValue(string_value=record.body),
            dropped_attributes_count=record.dropped,
        )
        if record.span is not None:
            made.trace_id, made.span_id = record.span.trace_id, record.span.span_id
            made.flags = _SAMPLED
        encoded: bytes = made.SerializeToString()
        return encoded + _attributes(_OF_LOG, record.attributes)

    def request(self, signal: Signal, records: Sequence[bytes]) -> bytes:
        """Make a request; see `OtlpFormat.request`. Both signals have the same field numbers."""
        del signal
        scope = self._scope + b"".join(_framed(2, record) for record in records)
        return _framed(1, self._resource + _framed(2, scope))

    def rejected(self, signal: Signal, answer: bytes) -> Rejected:
        """Read an answer; see `OtlpFormat.rejected`."""
        try:
            if signal == "traces":
                spans = trace_service.ExportTraceServiceResponse.FromString(answer).partial_success
                return Rejected(spans.rejected_spans, spans.error_message)
            said = logs_service.ExportLogsServiceResponse.FromString(answer).partial_success
        except DecodeError:
            return Rejected()
        return Rejected(said.rejected_log_records, said.error_message)


def _framed(field: int, data: bytes) -> bytes:
    """Write a field that has a length: https://protobuf.dev/programming-guides/encoding/."""
    size = len(data)
    if size < 0x80:
        return bytes((field << 3 | 2, size)) + data
    return bytes((field << 3 | 2,)) + _varint(size) + data


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _attributes(field: int, attributes: Attributes) -> bytes:
    """Write the attributes of a record, which can follow the bytes of its other fields.

    With the library's objects, two for each attribute, this took two thirds of the time of a span.
    """
    return b"".join(
        [
            _attribute(field, key, value)
            if type(value) is str and len(value) > _SHORT
            else _short_attribute(field, key, value)
            for key, value in attributes.items()
        ]
    )


def _attribute(field: int, key: str, value: AttributeValue) -> bytes:
    return _framed(field, _key(key) + _framed(2, _value(value)))


# Most attributes repeat: the names of models and sessions, numbers of steps, ids of a session.
_short_attribute = lru_cache(maxsize=16_384, typed=True)(_attribute)
_SHORT = 100  # characters


@lru_cache(maxsize=4_096)
def _key(key: str) -> bytes:
    return _framed(1, key.encode())


def _value(value: AttributeValue) -> bytes:
    """Write an AnyValue: opentelemetry/proto/common/v1/common.proto."""
    if isinstance(value, str):
        return _framed(1, value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + pack("<d", value)
    return _framed(5, b"".join([_framed(1, _framed(1, one.encode())) for one in value]))
