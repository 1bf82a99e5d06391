"""Sends the sessions that have ended, and what is said about sessions, in the order of the log.

The exporter is a projection: it reads events, and remembers in the store the position up to which
the receiver has everything. It never waits for the program, and the program never for it. Whatever
stops it, the next one goes on at that position. What it sends twice then has the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.model import SessionErased, SessionInterrupted
from lllm.otel.delivery import Counts, Delivery
from lllm.otel.otlp_format import OtlpFormat
from lllm.otel.records import LogRecord, SpanRecord
from lllm.otel.sent_position import SentPosition, read_sent, store_sent
from lllm.otel.session_spans import SessionSpans
from lllm.otel.session_steps import EndedSession
from lllm.otel.statement_logs import STATEMENTS, statement_log
from lllm.otel.step_spans import SpanOptions
from lllm.otel.trace_places import TracePlaces
from lllm.otel.waiting_events import WaitingEvents
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.skip_damage import skip_corrupt_events_between
from lllm.projections.queries.session_tags import own_tags
from lllm.store.read_model import ReadModel

_logger = logging.getLogger("lllm.store")

_PAGE = 500  # events that are read before the tags of their sessions are looked up


class ExportSettings(msgspec.Struct, frozen=True):
    """What an exporter sends, and to whom.

    Attributes:
        name: The name under which the store remembers what was sent.
        options: What is sent of each session.
        logs: False to send spans alone.
        batch_bytes: The greatest length of a request, in bytes.
        remembers: False to begin at the start of the log, and to remember nothing.
        from_start: True to begin at the start of the log.
    """

    name: str
    options: SpanOptions
    logs: bool
    batch_bytes: int
    remembers: bool = True
    from_start: bool = False


class Exporter:
    """Sends what a store has recorded to one receiver.

    Args:
        log: The log to read.
        rows: The rows, which have the tags of sessions, and keep what was sent.
        settings: What is sent.
        form: Encodes it.
        delivery: Sends it. None to send nothing, and only count.

    Attributes:
        sent: What the receiver has.
        counts: What was sent, or counted, by this exporter.
    """

    def __init__(
        self,
        log: LogBackend,
        rows: ReadModel,
        settings: ExportSettings,
        form: OtlpFormat,
        delivery: Delivery | None,
    ) -> None:
        self._log = log
        self._rows = rows
        self._settings = settings
        self._form = form
        self._delivery = delivery
        self._sessions = WaitingEvents(log)
        self._places = TracePlaces(self._sessions.start_of)
        self._spans = SessionSpans(self._places, self._sessions.definition, settings.options)
        self.counts = Counts()
        self.sent = SentPosition(settings.name)
        if settings.remembers:
            self.sent = self._remembered()
        self._reached = self.sent.position
        self._batch = _Batch(settings.batch_bytes)

    def _remembered(self) -> SentPosition:
        found = self._rows.ask(lambda rows: read_sent(rows, self._settings.name))
        sent = found[0] if found else SentPosition(self._settings.name)
        if self._settings.from_start:
            return msgspec.structs.replace(sent, position=0)
        if sent.position > self._log.head():
            _logger.warning(
                "%s has events up to position %d of the log, which ends at %d now: an older copy "
                "was put in its place. All of it is sent again.",
                self._settings.name, sent.position, self._log.head(),
            )  # fmt: skip
            return msgspec.structs.replace(sent, position=0)
        return sent

    def send(self, *, upto: int | None = None) -> None:
        """Send what was recorded since the last call, up to the present end of the log.

        Args:
            upto: The position to stop at; None for the end of the log.

        Raises:
            Undelivered: The delivery was given up. The exporter is of no further use; another one
                goes on where this one stopped.
            LogError: The log or the rows can't be read, or what was sent can't be stored.
        """
        upto = self._log.head() if upto is None else upto
        events = skip_corrupt_events_between(self._log, self._reached, upto)
        while page := list(islice(events, _PAGE)):
            for position, records in self._records(page):
                self._add(records, position)
        self._batch.position = self._reached = max(upto, self._reached)
        if self._batch.records:
            self._flush()

    def remember(self) -> None:
        """Store the position that was reached, also if nothing had to be sent on the way there."""
        if self._delivery is not None and self.sent.position < self._reached:
            self._store(self._reached, Counts())

    # -- Events

    def _records(
        self, page: Sequence[Recorded]
    ) -> Iterator[tuple[int, list[SpanRecord | LogRecord]]]:
        """Make the records for a page of events, with the position of each event."""
        ended: list[tuple[Recorded, list[Recorded], SessionInterrupted | None]] = []
        for event in page:
            if event.type not in STATEMENTS:
                events = self._sessions.take(event)
                if events is not None:
                    ended.append((event, events, None))
                continue
            payload = codec.decode(event)
            if isinstance(payload, SessionInterrupted):
                ended.append((event, self._sessions.interrupted(event, payload), payload))
            elif isinstance(payload, SessionErased):
                self._sessions.forget(payload.about)
                ended.append((event, [], None))
            else:
                ended.append((event, [], None))
        tags = self._tags({events[0].position for _, events, _ in ended if events})
        for event, events, interrupted in ended:
            records: list[SpanRecord | LogRecord] = []
            if events:
                first = events[0]
                session = EndedSession(
                    first.stream, events, tags.get(first.position, {}), interrupted
                )
                spans, logs = self._spans.of(session)
                records += [*spans, *logs]
            if event.type in STATEMENTS:
                log = statement_log(event, codec.decode(event), self._places)
                records += [] if log is None else [log]
            yield event.position, records

    def _tags(self, numbers: set[int]) -> dict[int, dict[str, str]]:
        if not numbers:
            return {}
        self._rows.catch_up()

        def find(database: RowsDatabase) -> dict[int, dict[str, str]]:
            with database.snapshot() as connection:
                return own_tags(connection, numbers)

        return self._rows.ask(find)

    # -- Batches

    def _add(self, records: Sequence[SpanRecord | LogRecord], position: int) -> None:
        """Encode records, and send the batch if it is full."""
        encoded: list[tuple[bool, bytes]] = []
        for record in records:
            if isinstance(record, SpanRecord):
                encoded.append((True, self._form.span(record)))
            elif self._settings.logs:
                encoded.append((False, self._form.log(record)))
        size = sum(len(data) for _, data in encoded)
        if self._batch.records and self._batch.bytes + size > self._settings.batch_bytes:
            self._flush()
        self._batch.records += encoded
        self._batch.bytes += size
        self._batch.position = position

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch(self._settings.batch_bytes)
        spans = [data for is_span, data in batch.records if is_span]
        logs = [data for is_span, data in batch.records if not is_span]
        if self._delivery is None:
            self.counts = self.counts.plus(Counts(spans=len(spans), logs=len(logs)))
            return
        counts = Counts()
        for part in _parts(spans, batch.limit):
            counts = counts.plus(self._delivery.deliver("traces", part))
        for part in _parts(logs, batch.limit):
            counts = counts.plus(self._delivery.deliver("logs", part))
        self.counts = self.counts.plus(counts)
        self._store(batch.position, counts)

    def _store(self, position: int, counts: Counts) -> None:
        self.sent = self.sent.after(position, counts)
        if self._settings.remembers:
            self._rows.ask(lambda rows: store_sent(rows, self.sent))


class _Batch:
    """Encoded records that are sent together.

    Attributes:
        limit: The greatest length of a request, in bytes.
        records: Whether each is a span, and its bytes.
        bytes: Their length together.
        position: The position of the last event that they have all of.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: list[tuple[bool, bytes]] = []
        self.bytes = 0
        self.position = 0


def _parts(records: Sequence[bytes], limit: int) -> Iterator[list[bytes]]:
    """Divide records into requests that are short enough; a single record may be too long."""
    part: list[bytes] = []
    size = 0
    for record in records:
        if part and size + len(record) > limit:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    if part:
        yield part
