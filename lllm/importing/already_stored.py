"""Finds which of the events to import the target store already has."""

from __future__ import annotations

from functools import lru_cache, partial

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import load_session as loading
from lllm.projections.queries import sessions as session_queries
from lllm.store.erasure_report import erased_text
from lllm.store.read_model import ReadModel

_LATELY = 1_000  # sessions remembered with the statements about them


class KnownSession(msgspec.Struct, frozen=True):
    """A session that the target store has in full or in part.

    Attributes:
        salt: That its digests are made with.
        digests: The digests of its events, by their seq.
        time: The time of its last event, in nanoseconds UTC.
        has_parent: It stands below another there.
        erased: When, by whom and why it was erased there; None if it was not.
    """

    salt: bytes
    digests: dict[int, bytes]
    time: int
    has_parent: bool
    erased: str | None = None


class KnownEvents:
    """Looks up events in the target store of an import.

    Args:
        log: The log of the store.
        rows: The rows of the store, which must be up to date.
    """

    def __init__(self, log: LogBackend, rows: ReadModel) -> None:
        self._log = log
        self._rows = rows
        self._statements = lru_cache(_LATELY)(self._statements_about)

    def session(self, session_id: str) -> KnownSession | None:
        """Find a session, which may be stored only in part.

        Raises:
            LogDamaged: An event of the session is corrupt in the target store.
        """
        found = self._rows.ask(partial(loading.find, session_id=session_id, below=False))
        if found is None:
            return None
        if found.row.erased is not None:
            return KnownSession(b"", {}, 0, False, erased_text(found.row))
        own = msgspec.structs.replace(found, statements=[])
        events = loading.read_sessions(self._log, own)
        return KnownSession(
            codec.salt_of(events[0]) if events else b"",
            {event.seq: event.digest for event in events},
            events[-1].time if events else 0,
            found.row.parent is not None,
        )

    def has_session(self, session_id: str) -> bool:
        """True if the store has all or a part of a session."""
        return self._statements(session_id) is not None

    def statement(self, stream: str, about: str) -> bytes | None:
        """Find a statement about a session.

        Args:
            stream: The name of the statement's stream.
            about: The id of the session.

        Returns:
            The digest of the statement; None if the store has none of this name.
        """
        position = (self._statements(about) or {}).get(stream)
        if position is None:
            return None
        for event in self._log.read(after=position - 1, upto=position, stream=stream):
            return event.digest
        return None

    def _statements_about(self, session_id: str) -> dict[str, int] | None:
        found = self._rows.ask(partial(loading.find, session_id=session_id, below=False))
        return None if found is None else {stream: at for at, stream in found.statements}

    def has_definition(self, stream: str) -> bool:
        """True if the store has an agent's definition."""

        def position(database: RowsDatabase) -> int | None:
            with session_queries.reading(database) as connection:
                return session_queries.definition_position(connection, stream)

        return self._rows.ask(position) is not None
