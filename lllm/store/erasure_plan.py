"""Plans an erasure: which sessions may be erased, what belongs to each, what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lllm.events import codec
from lllm.events.backend import read_types
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.integrity.erasure import without_payloads
from lllm.events.model import SessionArchived, SessionErased, SessionRestored
from lllm.events.statements import statement
from lllm.projections.queries import erasures as erasure_queries
from lllm.projections.queries import load_session as loading
from lllm.projections.queries import sessions as session_queries
from lllm.store.residue import archived_at, erased_residue, residue_of

if TYPE_CHECKING:
    from lllm.events.redaction.redact import Redact
    from lllm.projections.database import RowsDatabase
    from lllm.store.session_host import StoreSessionHost


class PlannedErasure(msgspec.Struct):
    """The plan for one session and its descendants: events to write, events without payloads.

    archive: the path of the archive file that has its events; None if they are in the log.
    """

    ids: list[str]
    statements: list[NewEvent]
    erased: list[Recorded]
    archive: str | None = None


class ErasureRefusal(msgspec.Struct, frozen=True):
    """The reason why a session can't be erased; `held` is True for a legal hold."""

    text: str
    held: bool = False


class ErasurePlanner:
    """Plans erasures of sessions in one store.

    Args:
        host: The open store with the sessions.
    """

    def __init__(self, host: StoreSessionHost) -> None:
        self._host = host
        self._backend = host.settings.backend
        self._rows = host.rows

    def derived(self, found: loading.FoundSession) -> list[session_queries.SessionRow]:
        """Return the top-level sessions of all replays and forks of a session's whole tree."""

        def ask(database: RowsDatabase) -> list[session_queries.SessionRow]:
            with session_queries.reading(database) as connection:
                rows = erasure_queries.made_of(connection, [row.id for row in found.family])
                tops = {row.root for row in rows} - {found.row.number}
                roots = [session_queries.numbered_session(connection, top) for top in sorted(tops)]
                return [row for row in roots if row is not None and row.erased is None]

        return self._rows.ask(ask)

    def refusal(self, found: loading.FoundSession) -> ErasureRefusal | None:
        """Return why a session can't be erased; None if it can."""
        row = found.row

        def ask(database: RowsDatabase) -> tuple[str, list[erasure_queries.Hold]]:
            with session_queries.reading(database) as connection:
                root = session_queries.numbered_session(connection, row.root)
                numbers = {one.number for one in found.family}
                return (root.id if root else "", erasure_queries.holds_on(connection, numbers))

        root, holds = self._rows.ask(ask)
        if holds:
            hold = holds[0]
            return ErasureRefusal(
                f"Session {row.id} can't be erased: {hold.placed_by} placed a legal hold on it "
                f"({hold.reason}). `lllm release {row.id}` lifts it.",
                held=True,
            )
        if row.parent is not None:
            return ErasureRefusal(
                f"Session {row.id} is a child of session {root}, which has its texts, too: erase "
                "that one instead."
            )
        running = [one.id for one in found.family if one.state == "running"]
        if running:
            return ErasureRefusal(
                f"Session {running[0]} is still running; it can be erased when it has ended, or "
                "its process is found dead."
            )
        return None

    def plan(
        self, found: loading.FoundSession, gone: set[int], named: set[str], by: str, reason: str
    ) -> PlannedErasure:
        """Read everything that is erased together with a session.

        `gone` has the numbers of all sessions that are erased at the same time. `named` has the
        definitions that earlier plans include already; those of this plan are added to it.
        """
        backend, redact = self._backend, self._host.redact
        others = [*found.statements]
        others += self._archived_before({row.id for row in found.family}, others)
        others += [(position, stream) for stream, position in self._definitions(gone, named)]
        streams = [stream for _, stream in others]
        erased: list[Recorded] = []
        statements: list[NewEvent] = []
        for row in found.family:
            own = streams if row is found.family[0] else []
            if row.archival is not None:
                left = archived_at(backend, row.id, row.archival)
                event = erased_residue(left, by=by, reason=reason, streams=own)
                statements.append(_of_erasure(row.id, event, redact))
                continue
            events = list(backend.read(after=row.number - 1, upto=row.last_position, stream=row.id))
            erased += without_payloads(events)
            event = residue_of(row, events, by=by, reason=reason, streams=own)
            statements.append(_of_erasure(row.id, event, redact))
        for position, stream in others:
            erased += without_payloads(
                backend.read(after=position - 1, upto=position, stream=stream)
            )
        return PlannedErasure(
            [row.id for row in found.family], statements, erased, found.row.archive
        )

    def _archived_before(
        self, ids: set[str], known: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        """Find what was said of sessions when they were archived, before they were restored."""
        if next(iter(read_types(self._backend, [SessionRestored.type])), None) is None:
            return []
        found = (
            (event, codec.decode(event))
            for event in read_types(self._backend, [SessionArchived.type])
        )
        return [
            (event.position, event.stream)
            for event, said in found
            if isinstance(said, SessionArchived)
            and said.about in ids
            and (event.position, event.stream) not in known
        ]

    def _definitions(self, gone: set[int], named: set[str]) -> list[tuple[str, int]]:
        """Return the agent definitions that only erased sessions use.

        Later definitions get names from a new secret. So a definition that is used again is written
        again.
        """

        def ask(database: RowsDatabase) -> list[tuple[str, int]]:
            with session_queries.reading(database) as connection:
                used = erasure_queries.definitions_used_by(connection, gone)
            return [one for one in used if one[0] not in named]

        if not self._rows.ask(ask):
            return []
        with FileErrors(self._rows.database.path):
            self._host.definitions.renew()
        self._rows.catch_up(timeout=5.0)
        found = self._rows.ask(ask)
        named |= {stream for stream, _ in found}
        return found


def _of_erasure(session_id: str, event: SessionErased, redact: Redact | None) -> NewEvent:
    return statement(f"erased-{session_id}", event, salt=event.salt, redact=redact)
