"""Reads OTLP as JSON: requests over HTTP, and the lines of the files that exporters write."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping

import msgspec

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

Json = Mapping[str, object]
_KEYS = ("resourceSpans", "resourceLogs", "resourceMetrics", "resourceProfiles")
_SNAKE = ("resource_spans", "resource_logs")
_STATUS = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_KINDS = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}


def decode(body: bytes) -> Signals:
    """Read a request.

    Args:
        body: The request as JSON.

    Returns:
        What it brings. Metrics bring nothing.

    Raises:
        SignalError: It is no request of OTLP.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:  # lone surrogates, which JavaScript writes
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise SignalError("it is not JSON") from None
    return signals_of(value)


def signals_of(value: object) -> Signals:
    """Read a request that was decoded from JSON; see `decode`."""
    if not isinstance(value, dict) or not (value.keys() & set(_KEYS)):
        if value == {}:
            return Signals()
        if isinstance(value, dict) and value.keys() & set(_SNAKE):
            raise SignalError("its names are not in camelCase, as JSON of OTLP has them")
        raise SignalError("it is no request of OTLP: it has neither resourceSpans nor resourceLogs")
    found = Signals(spans=[], logs=[], faults=[])
    for resource, scope, version, one in _each(value, "resourceSpans", "scopeSpans", "spans"):
        try:
            found.spans.append(_span(one, resource, scope, version, found.faults))
        except SignalError as error:
            found.rejected_spans += 1
            found.faults.append(f"span {_shown(one)}: {error}; it is left out")
    for resource, scope, _, one in _each(value, "resourceLogs", "scopeLogs", "logRecords"):
        try:
            found.logs.append(_log(one, resource, scope))
        except SignalError as error:
            found.rejected_logs += 1
            found.faults.append(f"a log record of {scope or 'no scope'}: {error}; it is left out")
    return found


def _each(
    value: Json, resources: str, scopes: str, items: str
) -> Iterator[tuple[dict[str, object], str, str, Json]]:
    """Yield each item of a request, with its resource, and the name and version of its scope."""
    for whole in _objects(value.get(resources)):
        resource = attributes_of(_object(whole.get("resource")).get("attributes"))
        for part in _objects(whole.get(scopes)):
            scope = _object(part.get("scope"))
            name, version = _text(scope.get("name")), _text(scope.get("version"))
            for one in _objects(part.get(items)):
                yield resource, name, version, one


def _span(
    one: Json, resource: dict[str, object], scope: str, version: str, faults: list[str]
) -> Span:
    status = _object(one.get("status"))
    start = _whole(one.get("startTimeUnixNano"), "start")
    return checked(
        Span(
            trace_id=_id(one.get("traceId")),
            span_id=_id(one.get("spanId")),
            parent_id=_id(one.get("parentSpanId")),
            name=_text(one.get("name")),
            start=start,
            end=_whole(one.get("endTimeUnixNano"), "end"),
            attributes=attributes_of(one.get("attributes")),
            events=tuple(
                OtlpSpanEvent(
                    _text(event.get("name")),
                    _whole(event.get("timeUnixNano") or 0, "time of an event"),
                    attributes_of(event.get("attributes")),
                )
                for event in _objects(one.get("events"))
            ),
            status=_enum(status.get("code"), _STATUS),
            status_message=_text(status.get("message")),
            scope=scope,
            scope_version=version,
            resource=resource,
            kind=_enum(one.get("kind"), _KINDS),
        ),
        faults,
    )


def _log(one: Json, resource: dict[str, object], scope: str) -> OtlpRecord:
    attributes = attributes_of(one.get("attributes"))
    time = _whole(one.get("timeUnixNano") or 0, "time") or _whole(
        one.get("observedTimeUnixNano") or 0, "time"
    )
    body = one.get("body")
    return OtlpRecord(
        time=time_or_error(time, "time"),
        name=_text(one.get("eventName")) or _text(attributes.get("event.name")),
        body=None if body is None else value_of(body),
        attributes=attributes,
        trace_id=_id(one.get("traceId")),
        span_id=_id(one.get("spanId")),
        scope=scope,
        resource=resource,
    )


def attributes_of(value: object) -> dict[str, object]:
    """Read a list of keys and values."""
    return {_text(one.get("key")): value_of(one.get("value")) for one in _objects(value)}


def value_of(value: object) -> object:
    """Read an AnyValue as JSON; bytes become base64.

    Raises:
        SignalError: A number is none.
    """
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return _whole(inner, "an attribute")
    if kind == "doubleValue":
        try:
            return to_plain(float(inner))
        except (TypeError, ValueError):
            raise SignalError(f"an attribute is {str(inner)[:40]!r}, no number") from None
    if kind == "arrayValue":
        values = _object(inner).get("values")
        return [value_of(one) for one in values] if isinstance(values, list) else []
    if kind == "kvlistValue":
        return attributes_of(_object(inner).get("values"))
    return inner if isinstance(inner, str | bool) else None


def _id(value: object) -> str:
    """Read an id, which is hex by the specification, and base64 where protobuf wrote the JSON."""
    found = _text(value)
    if len(found) in (24, 12):
        try:
            return base64.b64decode(found, validate=True).hex()
        except binascii.Error:
            return found
    try:
        bytes.fromhex(found)
    except ValueError:
        return f"not hex: {found[:40]}"
    return found.lower()


def _whole(value: object, name: str) -> int:
    """Read a whole number, which JSON of OTLP has as a text."""
    try:
        if isinstance(value, str | int) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    raise SignalError(f"its {name} is {str(value)[:40]!r}, no whole number")


def _enum(value: object, names: Mapping[str, int]) -> int:
    if isinstance(value, str):
        return names.get(value, 0)
    return value if isinstance(value, int) else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterator[Json]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def _shown(one: Json) -> str:
    name = _text(one.get("name"))[:80]
    return f"{name!r} ({_text(one.get('spanId'))[:40] or 'without an id'})"
