"""eventsourcing's recorder and mapper on SQLite, with `synchronous` as lllm has it."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import (
    DatetimeAsISO,
    EventStore,
    JSONTranscoder,
    Mapper,
    StoredEvent,
    UUIDAsHex,
)
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

_PAGE = 1_000  # notifications selected at once


class MessageAdded(DomainEvent):
    """lllm's event of that name, with the same fields."""

    message: int
    dialog: int
    content: dict[str, Any]
    why: str


class _Log:
    """One database, and events that go on for ever in one aggregate's sequence."""

    def __init__(self, path: Path, messages: list[dict[str, Any]]) -> None:
        transcoder = JSONTranscoder()
        transcoder.register(UUIDAsHex())
        transcoder.register(DatetimeAsISO())
        self.mapper: Mapper[uuid.UUID] = Mapper(transcoder)
        self._datastore = SQLiteDatastore(str(path))
        self.recorder = SQLiteApplicationRecorder(self._datastore)
        self.recorder.create_table()
        self.store = EventStore(self.mapper, self.recorder)
        self._set_synchronous()
        self._messages = messages
        self._aggregate = uuid.uuid4()
        self._version = 0

    def _set_synchronous(self) -> None:
        """On the one connection of the pool that a single thread uses: WAL is its own default."""
        with self._datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA synchronous=NORMAL")
        with self._datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            found = cursor.fetchone()[0]
        if found != 1:
            raise RuntimeError(f"synchronous is {found}, not 1 (NORMAL)")

    def events(self, number: int) -> list[MessageAdded]:
        """The next ones, as objects."""
        return [self._next() for _ in range(number)]

    def stored(self, number: int) -> list[StoredEvent]:
        """The next ones, as the recorder stores them."""
        return [self.mapper.to_stored_event(event) for event in self.events(number)]

    def _next(self) -> MessageAdded:
        self._version += 1
        return MessageAdded(
            originator_id=self._aggregate,
            originator_version=self._version,
            timestamp=datetime.now(UTC),
            **self._messages[self._version % len(self._messages)],
        )

    def all(self) -> Iterator[MessageAdded]:
        """Every event, decoded, page by page."""
        after = 0
        while page := self.recorder.select_notifications(after, _PAGE, inclusive_of_start=False):
            yield from map(self.mapper.to_domain_event, page)
            after = page[-1].id


class Worker:
    """A log that is written to and one that is read."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        messages, self._scanned = work["messages"], work["scanned"]
        self._log = _Log(folder / "eventsourcing.db", messages)
        self._read = _Log(folder / "eventsourcing-read.db", messages)
        self._read.store.put(self._read.events(self._scanned))
        self._appended = 0
        self.operations = {
            "append 1": lambda: self._append(1),
            "append 1,000": lambda: self._append(1_000),
            "append 1 object": lambda: self._put(1),
            "append 1,000 objects": lambda: self._put(1_000),
            "scan": lambda: self._scan,
        }

    def _append(self, number: int) -> Callable[[], object]:
        events = self._log.stored(number)
        self._appended += number
        return lambda: self._log.recorder.insert_events(events)

    def _put(self, number: int) -> Callable[[], object]:
        events = self._log.events(number)
        self._appended += number
        return lambda: self._log.store.put(events)

    def _scan(self) -> None:
        found = sum(1 for _ in self._read.all())
        if found != self._scanned:
            raise RuntimeError(f"{found} of {self._scanned} events were read")

    def stored(self) -> dict[str, tuple[int, int]]:
        return {"append": (self._log.recorder.max_notification_id(), self._appended)}
