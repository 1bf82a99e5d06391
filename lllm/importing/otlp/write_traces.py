"""Writes the spans of a trace as sessions, and what comes later as further sessions below them.

The log says what it has of a trace: each session names its spans, and the first one of those that
were written together names all spans that they were made from. So an import that was interrupted is
completed from the same spans, and an import that is repeated adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from lllm.events.envelope import NewEvent
from lllm.events.errors import StoreError
from lllm.events.model import Ancestor
from lllm.importing.otlp.known_sessions import EarlierSession, KnownSessions, foreign_id
from lllm.importing.otlp.session_facts import path_of, traceparent_of
from lllm.importing.otlp.signals import Span, text_in
from lllm.importing.otlp.trace_events import TraceSession
from lllm.importing.otlp.trace_plan import PlannedSession, plan
from lllm.importing.transcripts.append_session import SessionAppender
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import SessionEvents, SessionSource
from lllm.importing.transcripts.transcript_json import derived_id
from lllm.store.methods.store_parts import StoreParts


class OtlpCounts(msgspec.Struct):
    """What an import has done.

    Attributes:
        sessions: The number of sessions, at any depth, that the store did not have.
        events: The number of events that were added.
        spans: The number of spans that were new.
        logs: The number of log records that were new.
        known: The number of spans and log records that were here already.
        repeated_calls: The number of calls that another session has already, such as that of
            another library that watched the same call; they are not counted again.
        left_out: What was not imported and why, one text each.
    """

    sessions: int = 0
    events: int = 0
    spans: int = 0
    logs: int = 0
    known: int = 0
    repeated_calls: int = 0
    left_out: list[str] = []


class TraceWriter:
    """Writes traces to a store.

    Args:
        store: The store.
        known: What the log has already.
        owners: The sessions that have the calls.
        written: Counts what is done.
        append: Takes the events.
    """

    def __init__(
        self,
        store: StoreParts,
        known: KnownSessions,
        owners: CallOwners,
        written: OtlpCounts,
        append: Callable[[Sequence[NewEvent]], object],
    ) -> None:
        self._append = append
        self._store = store
        self._known = known
        self._owners = owners
        self._written = written

    def write(self, trace_id: str, spans: Mapping[str, Span]) -> None:
        """Write the spans of a trace that are new.

        Args:
            trace_id: The id of the trace.
            spans: The spans, by their ids.

        Raises:
            LogError: The store can't be written.
        """
        try:
            earlier = self._known.of(trace_id) if self._known.has(trace_id) else []
            there = {id_: digest for one in earlier for id_, digest in one.batch.items()}
            self._compare(spans, there)
            self._complete(spans, earlier)
            own = self._recorded_here(spans)
            new = [span for id_, span in spans.items() if id_ not in there and id_ not in own]
            self._written.known += len(own - there.keys())
            if new:
                self._write(new, self._parent(new, earlier))
                self._written.spans += len(new)
        except StoreError as error:
            self._written.left_out.append(f"trace {trace_id}: {error}")

    def _compare(self, spans: Mapping[str, Span], there: Mapping[str, str]) -> None:
        for id_, span in spans.items():
            if id_ in there:
                self._written.known += 1
                if there[id_] != span.digest:
                    self._written.left_out.append(
                        f"span {id_} of trace {span.trace_id} is here already with other content, "
                        "which stays"
                    )

    def _recorded_here(self, spans: Mapping[str, Span]) -> set[str]:
        """Find the spans that lllm made from sessions of this store, which come back."""
        named = {
            id_: text_in(span.attributes, "lllm.session.id") or ""
            for id_, span in spans.items()
            if span.scope == "lllm"
        }
        here = {one for one in named.values() if any(self._store.log.read(stream=one))}
        return {id_ for id_, session in named.items() if session in here}

    def _complete(self, spans: Mapping[str, Span], earlier: Sequence[EarlierSession]) -> None:
        """Write the rest of sessions that an earlier import did not finish."""
        ended = {one.id for one in earlier if one.is_ended}
        for one in earlier:
            if one.together and not ended.issuperset(one.together):
                batch = [spans[id_] for id_ in one.batch if id_ in spans]
                if len(batch) == len(one.batch):
                    others = [other for other in earlier if not other.batch.keys() & one.batch]
                    self._write(batch, self._parent(batch, others))

    def _parent(
        self, new: Collection[Span], earlier: Sequence[EarlierSession]
    ) -> EarlierSession | None:
        """Find the session below which late spans are written."""
        parents = {span.parent_id for span in new}
        for one in earlier:
            if one.spans & parents:
                return one
        return earlier[0] if earlier else None

    def _write(self, spans: Collection[Span], below: EarlierSession | None) -> None:
        planned = plan(spans)
        ids = [_session_id(one) for one in planned]
        batch: dict[str, object] = {
            "batch": {span.span_id: span.digest for span in spans},
            "sessions": ids,
        }
        if below is not None:
            batch["late"] = True
        numbers = {id(one): place for place, one in enumerate(planned)}
        ancestors: list[tuple[Ancestor, ...]] = []
        tools: dict[str, int] = {}
        for place, one in enumerate(planned):
            path = path_of(one)
            above: tuple[Ancestor, ...] = ()
            if one.parent is not None:
                parent = numbers[id(one.parent)]
                above = (*ancestors[parent], Ancestor(ids[parent], path_of(one.parent)))
            elif below is not None:
                above = (*below.ancestors, Ancestor(below.id, below.tactic_path))
            ancestors.append(above)
            source = SessionSource(
                ids[place],
                foreign_id(one.spans[0].trace_id, _part_of(one)),
                path,
                above,
                tools.get(one.under),
                self._store.partition,
            )
            made = self._session(
                source, one, None if one.parent is not None else batch,
                traceparent_of(planned) if above == () else None,
            )  # fmt: skip
            tools.update(made)

    def _session(
        self,
        source: SessionSource,
        planned: PlannedSession,
        batch: dict[str, object] | None,
        traceparent: str | None,
    ) -> dict[str, int]:
        store = self._store
        appender = SessionAppender(store.log, source.session_id, store.redact, self._append)
        events = SessionEvents(source, appender.salt, store.prices)
        made = TraceSession(events, planned, self._owners, batch, traceparent)
        made.make()
        appender.append(events.take())
        self._known.add(source.foreign_id, source.session_id)
        self._written.sessions += not appender.was_there
        self._written.events += appender.appended
        self._written.repeated_calls += made.repeated
        return made.tools


def _part_of(planned: PlannedSession) -> str:
    span = planned.span or min(planned.spans, key=lambda one: (one.start, one.span_id))
    return span.span_id


def _session_id(planned: PlannedSession) -> str:
    return derived_id(planned.began, "otlp", planned.spans[0].trace_id, _part_of(planned))
