"""Encodes spans and log records as OTLP in JSON, for files and receivers that take no protobuf.

Ids are in hex and 64-bit numbers are strings, as
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import msgspec

from lllm.events import codec
from lllm.otel.otlp_format import Rejected, Resource, Signal
from lllm.otel.records import SEVERITY_TEXTS, Attributes, AttributeValue, LogRecord, SpanRecord
from lllm.version import __version__

_KEYS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
_SAMPLED, _KNOWS_PARENT, _REMOTE_PARENT = 0x1, 0x100, 0x200  # as in `protobuf_format`
_ERROR = 2


class JsonFormat:
    """OTLP in JSON; see `OtlpFormat`."""

    content_type = "application/json"

    def __init__(self, about: Resource) -> None:
        self._resource = codec.encode({"attributes": _key_values(about)})
        self._scope = codec.encode({"name": "lllm", "version": __version__})

    def span(self, record: SpanRecord) -> bytes:
        """Encode a span; see `OtlpFormat.span`."""
        flags = _SAMPLED
        made: dict[str, object] = {
            "traceId": record.context.trace_id.hex(),
            "spanId": record.context.span_id.hex(),
        }
        if record.parent is not None:
            made["parentSpanId"] = record.parent.hex()
            flags |= _KNOWS_PARENT | (_REMOTE_PARENT if record.has_remote_parent else 0)
        made |= {
            "flags": flags,
            "name": record.name,
            "kind": record.kind,
            "startTimeUnixNano": str(record.start),
            "endTimeUnixNano": str(record.end),
            "attributes": _key_values(record.attributes),
        }
        if record.dropped:
            made["droppedAttributesCount"] = record.dropped
        if record.events:
            made["events"] = [
                {
                    "timeUnixNano": str(event.time),
                    "name": event.name,
                    "attributes": _key_values(event.attributes),
                }
                for event in record.events
            ]
        if record.links:
            made["links"] = [
                {
                    "traceId": link.to.trace_id.hex(),
                    "spanId": link.to.span_id.hex(),
                    "attributes": _key_values(link.attributes),
                }
                for link in record.links
            ]
        failed = {"code": _ERROR, "message": record.error}
        made["status"] = {} if record.error is None else failed
        return codec.encode(made)

    def log(self, record: LogRecord) -> bytes:
        """Encode a log record; see `OtlpFormat.log`."""
        made: dict[str, object] = {
            "timeUnixNano": str(record.time),
            "observedTimeUnixNano": str(record.time),
            "severityNumber": record.severity,
            "severityText": SEVERITY_TEXTS[record.severity],
            "eventName": record.name,
            "body": {"stringValue": record.body},
            "attributes": _key_values(record.attributes),
        }
        if record.dropped:
            made["droppedAttributesCount"] = record.dropped
        if record.span is not None:
            made["traceId"] = record.span.trace_id.hex()
            made["spanId"] = record.span.span_id.hex()
            made["flags"] = _SAMPLED
        return codec.encode(made)

    def request(self, signal: Signal, records: Sequence[bytes]) -> bytes:
        """Make a request, on one line; see `OtlpFormat.request`."""
        outer, middle, inner = (key.encode() for key in _KEYS[signal])
        return b"".join(
            (
                b'{"', outer, b'":[{"resource":', self._resource, b',"', middle, b'":[{"scope":',
                self._scope, b',"', inner, b'":[', b",".join(records), b"]}]}]}",
            )
        )  # fmt: skip

    def rejected(self, signal: Signal, answer: bytes) -> Rejected:
        """Read an answer; see `OtlpFormat.rejected`."""
        name = "rejectedSpans" if signal == "traces" else "rejectedLogRecords"
        try:
            said = msgspec.json.decode(answer or b"{}", type=_Answer).partialSuccess
            return Rejected(int(said.get(name) or 0), str(said.get("errorMessage") or ""))
        except ValueError:  # msgspec's errors are ValueErrors
            return Rejected()


class _Answer(msgspec.Struct):
    partialSuccess: dict[str, str | int | None] = {}  # noqa: N815 # the name in OTLP


def _key_values(attributes: Attributes | Mapping[str, str]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: AttributeValue) -> dict[str, object]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if isfinite(value) else _NOT_FINITE.get(str(value), "NaN")}
    return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}


# https://protobuf.dev/programming-guides/json/
_NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity"}
