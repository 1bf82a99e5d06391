"""Imports spans and log records of OTLP into a store, as they come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from lllm.events.errors import AppendConflict, LogError, LogReadOnly
from lllm.importing.otlp.agent_logs import conversation_of
from lllm.importing.otlp.known_sessions import KnownSessions
from lllm.importing.otlp.shared_append import SharedAppend
from lllm.importing.otlp.signals import Signals
from lllm.importing.otlp.trace_buffer import DETAILS, BufferedTrace, TraceBuffer
from lllm.importing.otlp.write_logs import LogWriter
from lllm.importing.otlp.write_traces import OtlpCounts, TraceWriter
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.store.methods.store_parts import StoreParts

SETTLE = 5.0
"""Seconds of silence after which a trace with its root is written."""
IDLE = 600.0
"""Seconds of silence after which a trace without its root, or a conversation, is written."""
_TOGETHER = 64  # traces that are written in few appends
MOST_BYTES = 64 << 20
"""About how many bytes of spans wait in memory."""


class ImportedOtlp(msgspec.Struct, frozen=True):
    """The result of an import of OTLP.

    Attributes:
        sessions: The number of sessions, at any depth, that the store did not have.
        events: The number of events that were added.
        spans: The number of spans that were new.
        logs: The number of log records that were new.
        known: The number of spans and log records that were here already, or came repeatedly.
        repeated_calls: The number of calls that another session has; they are not counted again.
        other_logs: The number of log records that say nothing about sessions; they are left out.
        left_out: What was not imported and why, one text each.
    """

    sessions: int
    events: int
    spans: int
    logs: int
    known: int
    repeated_calls: int = 0
    other_logs: int = 0
    left_out: tuple[str, ...] = ()


class OtlpImporter:
    """Makes sessions from spans and log records.

    Args:
        store: The store.
        settle: Seconds of silence after which a trace is written that has its root.
        idle: Seconds of silence after which a trace is written without its root.
        most_bytes: About how many bytes of spans may wait in memory.

    Raises:
        LogReadOnly: The store was opened for reading only.
    """

    def __init__(
        self,
        store: StoreParts,
        *,
        settle: float = SETTLE,
        idle: float = IDLE,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        if store.read_only:
            raise LogReadOnly(f"{store.backend!r} was opened to be read only; nothing is imported.")
        self._written = OtlpCounts(left_out=[])
        known, owners = KnownSessions(store.log), CallOwners(store.log)
        self._buffer = TraceBuffer(settle, idle, most_bytes)
        self._append = SharedAppend(store.log)
        self._writer = TraceWriter(store, known, owners, self._written, self._append.add)
        self._log_writer = LogWriter(store, known, owners, self._written, self._append.add)
        self._waiting: Counter[int] = Counter()
        self._done: list[int] = []
        self._other_logs = 0

    def add(self, signals: Signals, *, where: str = "", token: int | None = None) -> None:
        """Take what a request, or a line of a file, brings.

        Args:
            signals: What it brings.
            where: What it is, for texts about what is left out; "" for nothing.
            token: Its number; `take_done` gives it back when all of it is in the log.
        """
        now = time.monotonic()
        left_out = self._written.left_out
        left_out += [f"{where}{fault}" for fault in signals.faults]
        for span in signals.spans:
            fault = self._buffer.add(span, now, token)
            if fault is not None:
                left_out.append(f"{where}{fault}")
        traces = {span.trace_id for span in signals.spans}
        for record in signals.logs:
            if record.name == DETAILS and record.trace_id and record.span_id:
                self._buffer.add_details(record, now, token)
                traces.add(record.trace_id)
                self._written.logs += 1
            elif (conversation := conversation_of(record)) is not None:
                self._buffer.add_record(conversation, record, now, token)
                traces.add(f"{conversation.program}:{conversation.id}")
            else:
                self._other_logs += 1
        if token is not None:
            self._waiting[token] = len(traces)
            if not traces:
                self._finish(token)

    def leave_out(self, why: str) -> None:
        """Note what can't be imported."""
        self._written.left_out.append(why)

    def write_ready(self, *, everything: bool = False, rooted: bool = False) -> None:
        """Write the traces that are complete, or for which there is no room.

        Args:
            everything: True to write all of them.
            rooted: True to write all that have their roots.

        Raises:
            LogError: The store can't be written.
        """
        now = time.monotonic()
        batch: list[tuple[str, BufferedTrace]] = []
        before = msgspec.structs.replace(self._written, left_out=[*self._written.left_out])
        for one in self._buffer.ready(now, everything=everything, rooted=rooted):
            batch.append(one)
            if len(batch) == _TOGETHER:
                self._write_together(batch, before)
                batch = []
                before = msgspec.structs.replace(self._written, left_out=[*self._written.left_out])
        if batch:
            self._write_together(batch, before)

    def _write_together(
        self, batch: Sequence[tuple[str, BufferedTrace]], before: OtlpCounts
    ) -> None:
        """Write some traces in few appends; `before` is what was counted before them."""
        try:
            for trace_id, trace in batch:
                self._write(trace_id, trace)
                if self._append.is_full:
                    self._append.flush()
            self._append.flush()
        except AppendConflict:  # another process imports one of them; the others are written
            self._recount(before)
            for trace_id, trace in batch:
                self._write_alone(trace_id, trace)
        except LogError:
            self._recount(before)
            self._append.forget()
            for trace_id, trace in reversed(batch):
                self._buffer.put_back(trace_id, trace)
            raise
        for _, trace in batch:
            for token in trace.tokens:
                self._waiting[token] -= 1
                if not self._waiting[token]:
                    self._finish(token)

    def _write(self, trace_id: str, trace: BufferedTrace) -> None:
        if trace.conversation is not None:
            self._log_writer.write(trace.conversation, trace.records)
        else:
            self._writer.write(trace_id, trace.complete())

    def _write_alone(self, trace_id: str, trace: BufferedTrace) -> None:
        self._append.forget()
        try:
            self._write(trace_id, trace)
            self._append.flush()
        except AppendConflict:
            self._written.left_out.append(
                f"{trace_id}: another process imports it at this moment; import it again"
            )

    def _recount(self, before: OtlpCounts) -> None:
        """Count again from what was counted before some traces."""
        for name in before.__struct_fields__:
            setattr(self._written, name, getattr(before, name))

    def _finish(self, token: int) -> None:
        del self._waiting[token]
        self._done.append(token)

    def take_done(self) -> list[int]:
        """Take the numbers of the requests whose spans are all in the log."""
        done, self._done = self._done, []
        return done

    @property
    def waiting(self) -> int:
        """The number of traces and conversations that wait in memory."""
        return len(self._buffer)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of spans wait in memory."""
        return self._buffer.size

    def result(self) -> ImportedOtlp:
        """All that was imported since this object was made."""
        written = self._written
        return ImportedOtlp(
            sessions=written.sessions,
            events=written.events,
            spans=written.spans,
            logs=written.logs,
            known=written.known + self._buffer.repeated,
            repeated_calls=written.repeated_calls,
            other_logs=self._other_logs,
            left_out=tuple(written.left_out),
        )
