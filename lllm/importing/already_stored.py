"""Finds which of the events to import the target store already has."""

from __future__ import annotations

from functools import lru_cache, partial

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.model import SessionRestored
from lllm.events.statements import statement
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import load_session as loading
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.archivals import any_archived
from lllm.store.erasure_report import erased_text
from lllm.store.read_model import ReadModel
from lllm.store.residue import archived_at

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
        if found.row.archived is not None:
            return None  # its events are not here; `restored` makes room for them
        own = msgspec.structs.replace(found, statements=[])
        events = loading.read_sessions(self._log, own)
        return KnownSession(
            codec.salt_of(events[0]) if events else b"",
            {event.seq: event.digest for event in events},
            events[-1].time if events else 0,
            found.row.parent is not None,
        )

    def restored(self, session_id: str) -> list[NewEvent]:
        """Make what is said before the events of an archived session are imported again.

        Args:
            session_id: The id of the session.

        Returns:
            A statement about each session below it, the innermost first, and about it; empty for a
            session that was not archived.

        Raises:
            LogDamaged: The log does not say any more what was archived.
        """
        if not self._rows.ask(_any_archived):
            return []
        found = self._rows.ask(partial(loading.find, session_id=session_id))
        if found is None or found.row.archived is None or found.row.erased is not None:
            return []
        made: list[NewEvent] = []
        for row in reversed(found.family):
            left = archived_at(self._log, row.id, row.archival or 0)
            event = SessionRestored(
                about=row.id, cost=left.cost, digests=left.digests, positions=left.positions,
                salt=new_salt(),
            )  # fmt: skip
            made.append(statement(f"restored-{new_id()}", event, salt=event.salt))
        return made

    def family(self, session_id: str) -> set[str]:
        """List the ids of a session and of all below it."""
        found = self._rows.ask(partial(loading.find, session_id=session_id))
        return set() if found is None else {row.id for row in found.family}

    def archive_of(self, session_id: str) -> str | None:
        """Find the archive that has a session; None if it is in the store, or unknown."""
        found = self._rows.ask(partial(loading.find, session_id=session_id, below=False))
        return None if found is None else found.row.archive

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


def _any_archived(database: RowsDatabase) -> bool:
    with session_queries.reading(database) as connection:
        return any_archived(connection)
