"""Finds the trace and the parent span of sessions.

The trace of a session is that of the session that called it. A root session begins a trace of its
own, unless the program had an OpenTelemetry span around it: then its spans are below that one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from lllm.events.model import SessionStarted
from lllm.otel.span_ids import SpanContext, parse_traceparent, span_id_of, trace_id_of

_CACHED = 10_000  # sessions
_DEEPEST = 200  # sessions in each other; a forged log may have a session above itself

FindStart = Callable[[str], SessionStarted | None]


class ParentSpan(msgspec.Struct, frozen=True, gc=False):
    """The parent of a span.

    Attributes:
        trace_id: The id of the trace.
        span_id: The id of the parent; None for a span without one.
        is_outside: True if the parent is a span of the program, and none of lllm's.
    """

    trace_id: bytes
    span_id: bytes | None
    is_outside: bool = False


class TracePlace(msgspec.Struct, frozen=True, gc=False):
    """Where a session stands among the traces.

    Attributes:
        trace_id: The id of its trace.
        root: The id of the session at the top.
        span_id: The id of the session's own span; for a captured call without a session, the id of
            its first attempt's span.
        parent: The id of the parent span; None if it has none.
        surrounding: The W3C trace context of the span that the program had around the session, or
            around a session above it; None for none.
        has_span: False for a captured call without a session, which has no span of its own.
        is_outside: True if the parent is a span of the program, and none of lllm's.
    """

    trace_id: bytes
    root: str
    span_id: bytes
    parent: bytes | None
    surrounding: str | None
    has_span: bool
    is_outside: bool

    @property
    def context(self) -> SpanContext:
        """The span to which facts about the session are linked."""
        return SpanContext(self.trace_id, self.span_id)

    def parent_of_attempt(self, traceparent: str | None) -> ParentSpan:
        """Find the parent of a span for a captured call.

        Args:
            traceparent: The span that the program had around the call; None if it is that around
                the session, or if there is none.

        Returns:
            The parent.
        """
        own = parse_traceparent(traceparent)
        if own is not None:
            return ParentSpan(own.trace_id, own.span_id, is_outside=True)
        if self.has_span:
            return ParentSpan(self.trace_id, self.span_id)
        return ParentSpan(self.trace_id, self.parent, self.is_outside)


class TracePlaces:
    """Finds the places of sessions, and remembers them.

    Args:
        find_start: Reads the first event of a session; None if the log does not have it.
    """

    def __init__(self, find_start: FindStart) -> None:
        self._find_start = find_start
        self._known: OrderedDict[str, TracePlace] = OrderedDict()

    def of(self, session_id: str) -> TracePlace | None:
        """Find the place of a session by its id.

        Args:
            session_id: The id of the session.

        Returns:
            The place; None if the log does not have the session, or not its first event.
        """
        return self._of(session_id, 0)

    def place(self, session_id: str, started: SessionStarted) -> TracePlace:
        """Find the place of a session.

        Args:
            session_id: The id of the session.
            started: Its first event.

        Returns:
            The place.
        """
        return self._place(session_id, started, 0)

    def _of(self, session_id: str, depth: int) -> TracePlace | None:
        known = self._known.get(session_id)
        if known is not None:
            self._known.move_to_end(session_id)
            return known
        started = self._find_start(session_id) if depth < _DEEPEST else None
        return None if started is None else self._place(session_id, started, depth)

    def _place(self, session_id: str, started: SessionStarted, depth: int) -> TracePlace:
        above = started.ancestors[-1].session_id if started.ancestors else None
        parent = None if above is None else self._of(above, depth + 1)
        own = parse_traceparent(started.traceparent)
        root = started.ancestors[0].session_id if started.ancestors else session_id
        surrounding = started.traceparent if own is not None else None
        is_outside = False
        parent_id: bytes | None
        if own is not None and (parent is None or started.traceparent != parent.surrounding):
            trace_id, parent_id, is_outside = own.trace_id, own.span_id, True
        elif parent is not None and above is not None:
            trace_id, parent_id = parent.trace_id, parent.span_id
            surrounding = surrounding or parent.surrounding
            if started.parent_tool is not None:
                parent_id = span_id_of(above, "tool", started.parent_tool)
        else:
            trace_id = trace_id_of(root)
            parent_id = None if above is None else span_id_of(above, "session")
        has_span = started.kind != "call"
        key = span_id_of(session_id, "session") if has_span else span_id_of(session_id, "model", 1)
        found = TracePlace(
            trace_id, root, key, parent_id, surrounding, has_span, is_outside
        )  # fmt: skip
        self._known[session_id] = found
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return found
