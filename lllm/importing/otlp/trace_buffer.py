"""Keeps the spans of traces, in bounded memory, until their roots came or nothing more comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from lllm.importing.otlp.agent_logs import AgentConversation
from lllm.importing.otlp.conventions.read_span import with_details
from lllm.importing.otlp.signals import OtlpRecord, Span

DETAILS = "gen_ai.client.inference.operation.details"
"""The event with the content of a call, where spans have none."""
_OVERHEAD = 600  # bytes of a span in memory beside its texts


class BufferedTrace(msgspec.Struct):
    """The spans of a trace, or the records of a conversation, that came so far.

    Attributes:
        spans: The spans, by their ids.
        details: The attributes of events with the content of spans, by the ids of the spans.
        records: The log records, by their digests.
        conversation: The session of a coding agent that they are of; None for a trace.
        touched: When the last of them came, seconds of a monotonic clock.
        has_root: True if the root came.
        size: About how many bytes it takes.
        tokens: The requests that brought it.
    """

    spans: dict[str, Span]
    details: dict[str, dict[str, object]]
    touched: float
    records: dict[str, OtlpRecord] = msgspec.field(default_factory=dict)
    conversation: AgentConversation | None = None
    has_root: bool = False
    size: int = 0
    tokens: set[int] = msgspec.field(default_factory=set)

    def complete(self) -> dict[str, Span]:
        """The spans with the contents that came in events."""
        for span_id, details in self.details.items():
            span = self.spans.get(span_id)
            if span is not None:
                self.spans[span_id] = with_details(span, details)
        self.details = {}
        return self.spans


class TraceBuffer:
    """The traces that are not written yet, the one that was touched last at the end.

    Args:
        settle: Seconds of silence after which a trace is complete that has its root.
        idle: Seconds of silence after which a trace is written without its root.
        most_bytes: About how many bytes are kept; beyond it, the traces are written that were not
            touched for the longest time, those with a root first.
    """

    def __init__(self, settle: float, idle: float, most_bytes: int) -> None:
        self._settle = settle
        self._idle = idle
        self._most = most_bytes
        self._traces: OrderedDict[str, BufferedTrace] = OrderedDict()
        self.size = 0
        """About how many bytes are kept."""
        self.repeated = 0
        """The number of spans that came again while they waited."""

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, span: Span, now: float, token: int | None) -> str | None:
        """Keep a span.

        Args:
            span: The span.
            now: The present, seconds of a monotonic clock.
            token: The number of the request that brought it; None for none.

        Returns:
            What is wrong; None if it was kept, or was there already.
        """
        trace = self._trace(span.trace_id, now, token)
        known = trace.spans.get(span.span_id)
        if known is not None:
            if known != span and known.digest != span.digest:
                return (
                    f"span {span.span_id} of trace {span.trace_id} came twice with different "
                    "content; the first one is kept"
                )
            self.repeated += 1
            return None
        trace.spans[span.span_id] = span
        trace.has_root = trace.has_root or not span.parent_id
        self._grow(trace, _size(span.attributes))
        return None

    def add_details(self, record: OtlpRecord, now: float, token: int | None) -> None:
        """Keep the content of a span that came as an event."""
        trace = self._trace(record.trace_id, now, token)
        trace.details[record.span_id] = record.attributes
        self._grow(trace, _size(record.attributes))

    def add_record(
        self, conversation: AgentConversation, record: OtlpRecord, now: float, token: int | None
    ) -> None:
        """Keep a log record of a coding agent."""
        trace = self._trace(f"{conversation.program}:{conversation.id}", now, token)
        trace.conversation = conversation
        digest = record.digest
        if digest in trace.records:
            self.repeated += 1
            return
        trace.records[digest] = record
        self._grow(trace, _size(record.attributes))

    def put_back(self, trace_id: str, trace: BufferedTrace) -> None:
        """Keep a trace that could not be written."""
        self._traces[trace_id] = trace
        self._traces.move_to_end(trace_id, last=False)
        self.size += trace.size

    def _trace(self, trace_id: str, now: float, token: int | None) -> BufferedTrace:
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = BufferedTrace({}, {}, now)
        self._traces.move_to_end(trace_id)
        trace.touched = now
        if token is not None:
            trace.tokens.add(token)
        return trace

    def _grow(self, trace: BufferedTrace, size: int) -> None:
        trace.size += size
        self.size += size

    def ready(
        self, now: float, *, everything: bool = False, rooted: bool = False
    ) -> Iterator[tuple[str, BufferedTrace]]:
        """Take the traces that can be written.

        Args:
            now: The present, seconds of a monotonic clock.
            everything: True to take all of them.
            rooted: True to take all that have their roots.

        Yields:
            The id of each trace, and the trace.
        """
        for trace_id in list(self._traces):
            trace = self._traces[trace_id]
            silence = now - trace.touched
            if not (everything or rooted) and silence < self._settle:
                break  # those behind it were touched later
            enough = silence >= (self._settle if trace.has_root else self._idle)
            if everything or enough or (rooted and trace.has_root):
                yield trace_id, self._take(trace_id)
        if self.size > self._most:
            whole = [id_ for id_, trace in self._traces.items() if trace.has_root]
            for trace_id in [*whole, *self._traces]:
                if self.size <= self._most // 2:
                    break
                if trace_id in self._traces:
                    yield trace_id, self._take(trace_id)

    def _take(self, trace_id: str) -> BufferedTrace:
        trace = self._traces.pop(trace_id)
        self.size -= trace.size
        return trace


def _size(attributes: dict[str, object]) -> int:
    return _OVERHEAD + sum(
        100 + len(name) + (len(value) if isinstance(value, str) else 50)
        for name, value in attributes.items()
    )
