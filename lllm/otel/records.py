"""Spans and log records as OpenTelemetry defines them, before they are encoded.

The data model: https://opentelemetry.io/docs/specs/otlp/. Times are nanoseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lllm.otel.span_ids import SpanContext

AttributeValue = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, AttributeValue]

INTERNAL = 1  # https://opentelemetry.io/docs/specs/otel/trace/api/#spankind
CLIENT = 3

INFO = 9  # https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
WARN = 13
ERROR = 17
SEVERITY_TEXTS = {INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}


class SpanLink(msgspec.Struct, frozen=True, gc=False):
    """A link to a span that is not the parent.

    Attributes:
        to: The span.
        attributes: What the link means.
    """

    to: SpanContext
    attributes: Attributes = {}


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened at one moment of a span, such as an exception.

    Attributes:
        name: The name of the event.
        time: The time of the event.
        attributes: What is known about it.
    """

    name: str
    time: int
    attributes: Attributes


class SpanRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A span that has ended.

    Attributes:
        context: Its trace and id.
        parent: The id of its parent, 8 bytes; None for a root.
        name: Its name, as "chat gpt-4.1".
        kind: INTERNAL or CLIENT.
        start: When it began.
        end: When it ended.
        attributes: Its attributes, small ones first.
        dropped: The number of attributes that were left out.
        error: The description of its failure; None if it did not fail.
        links: Its links to other spans.
        events: What happened in it.
        has_remote_parent: True if another program made the parent.
    """

    context: SpanContext
    parent: bytes | None
    name: str
    kind: int
    start: int
    end: int
    attributes: Attributes
    dropped: int = 0
    error: str | None = None
    links: tuple[SpanLink, ...] = ()
    events: tuple[SpanEvent, ...] = ()
    has_remote_parent: bool = False


class LogRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A log record, such as a retry or a tag.

    Attributes:
        name: The name of the event, as "lllm.retry.scheduled".
        time: When it happened.
        severity: INFO, WARN or ERROR.
        body: A sentence for people.
        attributes: What is known about it.
        dropped: The number of attributes that were left out.
        span: The span that it belongs to; None if there is none.
    """

    name: str
    time: int
    severity: int
    body: str
    attributes: Attributes
    dropped: int = 0
    span: SpanContext | None = None
