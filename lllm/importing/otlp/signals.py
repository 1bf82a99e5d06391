"""The spans and log records of OTLP, in one form for JSON and protobuf, and what is wrong in them.

https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import msgspec

_EARLIEST = 946_684_800 * 10**9  # 2000: an earlier time was written in another unit
_LATEST = 9_214_646_400 * 10**9  # 2262, the end of what 64 bits hold
ERROR = 2
"""The status code of a span that failed."""


class OtlpSpanEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened during a span, such as an exception.

    Attributes:
        name: Its name.
        time: Its time, nanoseconds UTC.
        attributes: Its attributes, as JSON.
    """

    name: str
    time: int
    attributes: dict[str, object]


class Span(msgspec.Struct, frozen=True, gc=False):
    """A span, with what its scope and its resource say.

    Attributes:
        trace_id: The id of its trace, 32 digits of hex.
        span_id: The id of the span, 16 digits of hex.
        parent_id: The id of the span that it was made in; "" for the root of a trace.
        name: Its name.
        start: Its start, nanoseconds UTC.
        end: Its end, nanoseconds UTC.
        attributes: Its attributes, as JSON.
        events: What happened during the span.
        status: 0 for an unknown outcome, 1 for a good one, 2 for an error.
        status_message: The message of the error.
        scope: The name of the library that made the span.
        scope_version: The version of that library.
        resource: The attributes of the process, as JSON.
        kind: The kind of the span, by its number in OTLP.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    attributes: dict[str, object]
    events: tuple[OtlpSpanEvent, ...] = ()
    status: int = 0
    status_message: str = ""
    scope: str = ""
    scope_version: str = ""
    resource: dict[str, object] = {}
    kind: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """The id of the trace and of the span."""
        return self.trace_id, self.span_id

    @property
    def digest(self) -> str:
        """A digest of its content, 16 digits of hex, which is the same for JSON and protobuf."""
        return short_digest([
            self.parent_id, self.name, self.start, self.end, self.attributes, self.status,
            [[one.name, one.time, one.attributes] for one in self.events],
        ])  # fmt: skip


class OtlpRecord(msgspec.Struct, frozen=True, gc=False):
    """A log record, with what its scope and its resource say.

    Attributes:
        time: Its time, nanoseconds UTC.
        name: The name of the event that it records; "" for a text.
        body: Its body, as JSON.
        attributes: Its attributes, as JSON.
        trace_id: The id of the trace that it belongs to; "" for none.
        span_id: The id of the span that it belongs to; "" for none.
        scope: The name of the library that made it.
        resource: The attributes of the process, as JSON.
    """

    time: int
    name: str
    body: object
    attributes: dict[str, object]
    trace_id: str = ""
    span_id: str = ""
    scope: str = ""
    resource: dict[str, object] = {}

    @property
    def digest(self) -> str:
        """A digest of its content, 16 digits of hex, by which a repeated record is recognised."""
        return short_digest([self.time, self.name, self.body, self.attributes])


class Signals(msgspec.Struct):
    """What one request, or one line of a file, brings.

    Attributes:
        spans: The spans.
        logs: The log records.
        faults: What can't be imported, one text each.
        rejected_spans: The number of spans that can't be imported.
        rejected_logs: The number of log records that can't be imported.
    """

    spans: list[Span] = []
    logs: list[OtlpRecord] = []
    faults: list[str] = []
    rejected_spans: int = 0
    rejected_logs: int = 0


class SignalError(ValueError):
    """A span or a log record, or a whole request, can't be read; the text says why."""


def short_digest(value: object) -> str:
    """Make a digest of a JSON value, 16 digits of hex; the order of keys does not matter."""
    try:
        data = msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError:  # a lone surrogate, which JavaScript writes
        data = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def time_or_error(nanoseconds: int, name: str) -> int:
    """Check a time.

    Args:
        nanoseconds: The time, nanoseconds UTC.
        name: What the time is of, for the error.

    Returns:
        The time.

    Raises:
        SignalError: It can't be the time of a span.
    """
    if not _EARLIEST <= nanoseconds < _LATEST:
        raise SignalError(
            f"its {name} is {nanoseconds}, which is no time in nanoseconds since 1970"
        )
    return nanoseconds


def checked(span: Span, faults: list[str]) -> Span:
    """Check the ids and times of a span.

    Args:
        span: The span.
        faults: Gets a text if the span is imported, but not as it was sent.

    Returns:
        The span, with an end that is not before its start.

    Raises:
        SignalError: The span can't be imported.
    """
    if len(span.trace_id) != 32 or not span.trace_id.strip("0"):
        raise SignalError(f"its trace id is {span.trace_id!r}, not 32 digits of hex")
    if len(span.span_id) != 16 or not span.span_id.strip("0"):
        raise SignalError(f"its span id is {span.span_id!r}, not 16 digits of hex")
    time_or_error(span.start, "start")
    if span.end < span.start:
        faults.append(
            f"span {span.span_id} of trace {span.trace_id} ends before it starts; it is imported "
            "with no duration"
        )
        span = msgspec.structs.replace(span, end=span.start)
    time_or_error(span.end, "end")
    return span


def text_in(attributes: Mapping[str, object], *names: str) -> str | None:
    """Read the first of some attributes that is a text with at least one character."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None
