"""Plans what leaves a store: which sessions may go, and what is written of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import msgspec

from lllm.archive.write_archive import WrittenArchive
from lllm.events import codec
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged
from lllm.events.ids import new_id
from lllm.events.model import SessionStarted
from lllm.events.statements import statement
from lllm.projections.queries import archivals, session_tags
from lllm.projections.queries import erasures as erasure_queries
from lllm.projections.queries import load_session as loading
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.load_session import FoundSession
from lllm.store.erasure_plan import ErasurePlanner
from lllm.store.residue import archived_residue

if TYPE_CHECKING:
    from lllm.projections.database import RowsDatabase
    from lllm.store.session_host import StoreSessionHost

Leaf = tuple[int, bytes]
Reason = Literal["held", "running", "in use", "gone"]


class LeavingSession(msgspec.Struct):
    """A session with all below it, which can leave the store.

    Attributes:
        found: The rows of the sessions.
        related: Events that stay in the store, too: definitions, and gaps of the log.
        events: The events that leave, in the order of the log.
        tags: The own tags of each session, by its number.
        definitions: The definitions that each session uses, by its number.
    """

    found: FoundSession
    related: list[Recorded]
    events: list[Recorded]
    tags: dict[int, dict[str, str]]
    definitions: dict[int, list[str]]

    @property
    def leaves(self) -> list[Leaf]:
        """The positions and digests of the events that leave."""
        return [(event.position, event.digest) for event in self.events]

    @property
    def size(self) -> int:
        """The bytes of all payloads."""
        return sum(len(event.data) for event in self.events)

    def statements(self, written: WrittenArchive, by: str) -> Iterator[NewEvent]:
        """Make what the store says of the sessions from now on, the topmost first.

        Args:
            written: The file that has the events.
            by: Who archives them.

        Yields:
            A statement about each session.
        """
        ids = {row.id for row in self.found.family}
        others = [event for event in self.events if event.stream not in ids]
        for row in self.found.family:
            own = [event for event in self.events if event.stream == row.id]
            more = others if row is self.found.family[0] else []
            gone = sorted([*own, *more], key=attrgetter("position"))
            event = archived_residue(
                row, own, [(one.position, one.digest) for one in gone], by=by,
                archive=str(written.path), sha256=written.sha256, tags=self.tags[row.number],
                definitions=self.definitions.get(row.number, []),
                streams=[one.stream for one in more],
            )  # fmt: skip
            yield statement(f"archived-{new_id()}", event, salt=event.salt)


class ArchivePlanner:
    """Plans which sessions of a store leave it.

    Args:
        host: The open store.
    """

    def __init__(self, host: StoreSessionHost) -> None:
        self._log = host.settings.backend
        self._rows = host.rows
        self._erasures = ErasurePlanner(host)

    def find(self, session_id: str) -> FoundSession | Reason:
        """Find a session that may leave the store.

        Args:
            session_id: The id of a session at the top.

        Returns:
            The session; or why it stays.
        """
        found = self._rows.ask(partial(loading.find, session_id=session_id))
        if found is None or found.row.erased is not None or found.row.archived is not None:
            return "gone"
        refusal = self._erasures.refusal(found)
        if refusal is not None:
            return "held" if refusal.held else "running"
        if any(row.state == "running" for row in self._made_of(found)):
            return "in use"
        return found

    def _made_of(self, found: FoundSession) -> list[session_queries.SessionRow]:
        def ask(database: RowsDatabase) -> list[session_queries.SessionRow]:
            with session_queries.reading(database) as connection:
                return erasure_queries.made_of(connection, [row.id for row in found.family])

        return self._rows.ask(ask)

    def read(self, found: FoundSession) -> LeavingSession | None:
        """Read all events of a session, and check them.

        Args:
            found: The session.

        Returns:
            What leaves the store; None if an event is missing, not what was written, or of a newer
            lllm.
        """
        try:
            events = loading.read_sessions(self._log, found)
            firsts = {event.stream: event for event in events if event.seq == 1}
            if not all(_begins(firsts.get(row.id)) for row in found.family):
                return None
            definitions = self._rows.ask(
                lambda rows: loading.read_definitions(self._log, rows, events)
            )
            related = [*definitions, *loading.read_gaps(self._log, events)]
        except LogDamaged:
            return None
        numbers = [row.number for row in found.family]

        def ask(database: RowsDatabase) -> tuple[dict[int, dict[str, str]], dict[int, list[str]]]:
            with session_queries.reading(database) as connection:
                tags = session_tags.own_tags(connection, numbers)
                return tags, archivals.definitions_of(connection, numbers)

        return LeavingSession(found, related, events, *self._rows.ask(ask))


def _begins(event: Recorded | None) -> bool:
    """True if an event is the beginning of a session that this version of lllm can read."""
    return event is not None and isinstance(codec.decode(event), SessionStarted)


def statements_of(
    leaving: Sequence[LeavingSession], written: WrittenArchive, by: str
) -> list[NewEvent]:
    """Make what the store says of all sessions that leave it.

    Args:
        leaving: The sessions.
        written: The file that has their events.
        by: Who archives them.

    Returns:
        The statements.
    """
    return [one for session in leaving for one in session.statements(written, by)]
