"""Writes the log records of a coding agent's session; what comes later becomes another session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lllm.events.envelope import NewEvent
from lllm.events.errors import StoreError
from lllm.events.model import Content, Error, ToolCall
from lllm.importing.otlp.agent_logs import AgentConversation, LogEntry, entry_of
from lllm.importing.otlp.conventions.attribute_values import number_in
from lllm.importing.otlp.known_sessions import KnownSessions, foreign_id
from lllm.importing.otlp.signals import OtlpRecord
from lllm.importing.otlp.write_traces import OtlpCounts
from lllm.importing.transcripts.append_session import SessionAppender
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import SessionEvents, SessionSource
from lllm.importing.transcripts.transcript_json import derived_id
from lllm.invokers import Answer
from lllm.store.methods.store_parts import StoreParts

_TEXTS = ("prompt", "arguments", "tool_parameters", "function_args", "output", "tool_output")


class LogWriter:
    """Writes the sessions of coding agents to a store; see `TraceWriter`.

    Args:
        store: The store.
        known: What the log has already.
        owners: The sessions that have the calls.
        counts: Counts what is done.
        append: Takes the events.
    """

    def __init__(
        self,
        store: StoreParts,
        known: KnownSessions,
        owners: CallOwners,
        counts: OtlpCounts,
        append: Callable[[Sequence[NewEvent]], object],
    ) -> None:
        self._append = append
        self._store = store
        self._known = known
        self._owners = owners
        self._counts = counts

    def write(self, conversation: AgentConversation, records: Mapping[str, OtlpRecord]) -> None:
        """Write the records that are new.

        Args:
            conversation: The session of the coding agent.
            records: Its records, by their digests.

        Raises:
            LogError: The store can't be written.
        """
        name = f"{conversation.program}:{conversation.id}"
        try:
            earlier = self._known.of(name) if self._known.has(name) else []
            there = {digest for one in earlier if one.is_ended for digest in one.batch}
            for one in earlier:
                if not one.is_ended and records.keys() >= one.batch.keys():
                    there |= one.batch.keys()
                    self._write(conversation, {digest: records[digest] for digest in one.batch})
            new = {digest: one for digest, one in records.items() if digest not in there}
            self._counts.known += len(records) - len(new)
            if new:
                self._write(conversation, new)
                self._counts.logs += len(new)
        except StoreError as error:
            self._counts.left_out.append(f"session {conversation.id}: {error}")

    def _write(self, conversation: AgentConversation, records: Mapping[str, OtlpRecord]) -> None:
        ordered = sorted(records.items(), key=_order)
        first, began = ordered[0][0], ordered[0][1].time
        name = f"{conversation.program}:{conversation.id}"
        session_id = derived_id(began, "otlp", name, first)
        source = SessionSource(
            session_id,
            foreign_id(name, first),
            f"{conversation.program}::session",
            partition=self._store.partition,
        )
        appender = SessionAppender(self._store.log, session_id, self._store.redact, self._append)
        events = SessionEvents(source, appender.salt, self._store.prices)
        made = _AgentSession(events, conversation, self._owners)
        made.make(dict(ordered))
        appender.append(events.take())
        self._known.add(source.foreign_id, session_id)
        self._counts.sessions += not appender.was_there
        self._counts.events += appender.appended
        self._counts.repeated_calls += made.repeated


def _order(item: tuple[str, OtlpRecord]) -> tuple[int, int, str]:
    digest, record = item
    return record.time, number_in(record.attributes, "event.sequence") or 0, digest


class _AgentSession:
    """Makes the events of one session from its records."""

    def __init__(
        self, events: SessionEvents, conversation: AgentConversation, owners: CallOwners
    ) -> None:
        self._events = events
        self._conversation = conversation
        self._owners = owners
        self._dialog = self._last = 0
        self._error: Error | None = None
        self.repeated = 0

    def make(self, records: Mapping[str, OtlpRecord]) -> None:
        """Make all events; the records are in order, by their digests."""
        entries = [entry_of(one) for one in records.values()]
        first = next(iter(records.values()))
        asked = next((one.text for one in entries if one.kind == "prompt" and one.text), None)
        about = {
            "resource": first.resource,
            "records": [
                {
                    "time": one.time,
                    "name": one.name,
                    "attributes": {
                        name: value for name, value in one.attributes.items() if name not in _TEXTS
                    },
                }
                for one in records.values()
            ],
            "batch": {digest: digest for digest in records},
            "sessions": [self._events.source.session_id],
        }
        tags = {"source": self._conversation.program, "conversation": self._conversation.id}
        self._events.start(first.time, task=asked, tags=tags, metadata={"otel": about})
        self._dialog = self._events.open_dialog(first.time, "conversation")
        for entry in entries:
            self._add(entry)
        self._events.end(max(one.ended for one in entries), delivery=None, error=self._error)

    def _add(self, entry: LogEntry) -> None:
        if entry.kind == "prompt":
            content = Content.of("user", entry.text)
            self._last = self._events.add_message(entry.ended, self._dialog, content)
        elif entry.kind == "answer":
            self._answer(entry)
        elif entry.kind == "failure":
            self._error = Error(
                entry.name, entry.text or "The record does not say why.", status=entry.status
            )
            self._events.add_failed_call(
                entry.began, entry.ended, self._conversation.site, self._error,
                model=entry.model or "unknown", dialog=self._dialog, upto=self._last,
            )  # fmt: skip
        elif entry.kind == "tool":
            call = ToolCall(entry.call_id or f"{entry.began}", entry.name)
            self._events.call_tool(
                entry.began, call, entry.arguments, request=self._events.last_request
            )
            content = Content.of("tool", entry.text)
            self._last = self._events.add_result(
                entry.ended,
                self._dialog,
                Content("tool", content.parts, call_id=call.id),
                is_error=entry.is_error,
            )

    def _answer(self, entry: LogEntry) -> None:
        self._error = None
        own = self._events.source.session_id
        for name in (entry.response_id, entry.request_id):
            if name and self._owners.is_elsewhere_at(
                name, own, began=entry.began, ended=entry.ended
            ):
                self.repeated += 1
                return
        answer = Answer(
            content=Content("assistant"),
            finish="other",
            model=entry.model or "unknown",
            response_id=entry.response_id,
            request_id=entry.request_id,
            usage=entry.usage,
            billed=entry.billed,
        )
        self._last = self._events.add_call(
            entry.began, entry.ended, self._conversation.site, answer,
            dialog=self._dialog, upto=self._last,
        )  # fmt: skip
