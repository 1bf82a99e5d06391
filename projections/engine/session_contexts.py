"""Finds the session that an event belongs to, and the sessions above it.

Contexts of recent sessions are cached. Others are read from the rows of the sessions, so catching
up in the middle of a long session takes one look-up and does not read the log from the session's
start.

A context is what views have to know about a session: its number, tactic and parent
(`SessionContext`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from lllm.events.envelope import Recorded
from lllm.events.model import (
    Ancestor,
    Erased,
    Event,
    SessionResidue,
    SessionRestored,
    SessionStarted,
)
from lllm.projections.database import RowsDatabase, Value
from lllm.projections.table_names import generation_table
from lllm.projections.view import SessionContext, ViewEvent, replayed_by, storable

# cached sessions; more than a batch can start, so that none is dropped before it is stored
_CACHED = 50_000

# Looks up a row: a column and its value -> the columns below, or None.
FindRow = Callable[[str, Value], Sequence[Value] | None]
_UNKNOWN = ""  # the path for the tactic of a session that was erased before it was read
_COLUMNS = "number, id, tactic, partition, started, parent, replays"


class Contexts:
    """Finds the contexts of sessions by id, during one pass over the log.

    After an aborted pass, make a new object: the cache may have sessions that were not stored.

    Args:
        find_row: A function that reads one stored row by the value of a column.
        from_start: True if the pass begins at the start of the log.
    """

    def __init__(self, find_row: FindRow, *, from_start: bool = False) -> None:
        self._find_row = find_row
        self._from_start = from_start
        self._cache: OrderedDict[str, SessionContext] = OrderedDict()
        self._numbers: set[int] = set()  # of the cached sessions
        # ids of sessions that were erased before they were read
        self._without_start: set[str] = set()
        # ids of sessions that come back from an archive, until they begin again
        self._restored: set[str] = set()
        # ids of sessions whose start had left the log when their residue was read
        self._claimed: set[str] = set()

    def view_event(self, event: Recorded, payload: Event) -> ViewEvent:
        """Make the ViewEvent of an event, with the session that the event is about.

        Args:
            event: The event as read from the log.
            payload: The payload of the event, decoded.

        Returns:
            The event in the form for views.
        """
        if isinstance(payload, SessionStarted):
            # A session begins once: with the first event of its stream.
            begins = event.seq == 1 and not self._is_claimed(event)
            return ViewEvent(event, payload, self._start(event, payload) if begins else None)
        if isinstance(payload, SessionResidue):
            return self._residue(event, payload)
        if isinstance(payload, SessionRestored):
            restored = ViewEvent(event, payload, self.of(payload.about))
            # Its events follow, and give it another number. Its row may not be deleted yet.
            self._drop(self._cache.pop(payload.about, None))
            self._restored.add(payload.about)
            self._claimed.discard(payload.about)
            return restored
        if isinstance(payload, Erased) and payload.was == SessionStarted.type and event.seq == 1:
            self._without_start.add(event.stream)
            known = SessionContext(event.position, event.stream, _UNKNOWN, "", event.time)
            return ViewEvent(event, payload, self._keep(known))
        about = getattr(payload, "about", None)
        return ViewEvent(event, payload, self.of(about if isinstance(about, str) else event.stream))

    def _residue(self, event: Recorded, left: SessionResidue) -> ViewEvent:
        """Make the ViewEvent of an erasure or archiving.

        The session's own start may have been erased, or have left the log.
        """
        found = self.of(left.about)
        if found is None and not self._is_free(left, event.position):
            return ViewEvent(event, left, None)
        if (
            found is not None
            and left.about not in self._without_start
            and found.tactic_path != _UNKNOWN
        ):
            return ViewEvent(event, left, found)
        self._without_start.discard(left.about)
        if found is None:
            self._claimed.add(left.about)
        known = SessionContext(
            left.positions[0][0] if found is None else found.number,
            storable(left.about),
            storable(left.tactic_path),
            storable(left.partition),
            left.started if found is None else found.started,
            self._nearest(left.ancestors),
            replayed_by(left) is not None,
        )
        return ViewEvent(event, left, self._keep(known), is_residue=True)

    def _is_free(self, left: SessionResidue, position: int) -> bool:
        """True if the place that a residue claims for its session can be that session's.

        Nothing else in the log tells of that place. It is before the event, and no other session
        has it.
        """
        number = left.positions[0][0] if left.positions else 0
        return (
            bool(left.about)
            and 0 < number < position
            and number not in self._numbers
            and self._find_row("number", number) is None
        )

    def _is_claimed(self, start: Recorded) -> bool:
        """True if a session has a row of another place, although it begins only here.

        A residue has claimed it, which an intact log has only of sessions that left it. A row of
        this place is of an earlier pass, which was for other views.
        """
        if start.stream in self._restored:
            return False
        if start.stream in self._claimed:
            return True
        row = None if self._from_start else self._find_row("id", start.stream)
        return row is not None and row[0] != start.position

    def of(self, session_id: str) -> SessionContext | None:
        """Find the context of a session.

        Args:
            session_id: The id of the session.

        Returns:
            The context; None if the log does not have the session.
        """
        found = self._cache.get(session_id)
        if found is not None:
            self._cache.move_to_end(session_id)
            return found
        if session_id in self._restored or storable(session_id) != session_id:
            return None  # a stored id is always UTF-8
        return self._load("id", session_id)

    def _start(self, event: Recorded, started: SessionStarted) -> SessionContext:
        return self._keep(
            SessionContext(
                event.position,
                event.stream,
                storable(started.tactic_path),
                storable(started.partition),
                event.time,
                self._nearest(started.ancestors),
                replayed_by(started) is not None,
            )
        )

    def _nearest(self, ancestors: Sequence[Ancestor]) -> SessionContext | None:
        for ancestor in reversed(ancestors):
            found = self.of(ancestor.session_id)
            if found is not None:
                return found
        return None

    def _load(self, column: str, value: Value) -> SessionContext | None:
        row = self._find_row(column, value)
        if row is None:
            return None
        number, session_id, tactic, partition, started, parent, replays = row
        above = None
        if isinstance(parent, int) and isinstance(number, int) and parent < number:
            above = self._load("number", parent)  # a forged row may be its own ancestor
        return self._keep(
            SessionContext(
                number if isinstance(number, int) else 0,
                str(session_id),
                _UNKNOWN if tactic is None else str(tactic),
                str(partition or ""),
                started if isinstance(started, int) else 0,
                above,
                replays is not None,
            ),
            stored=True,
        )

    def _keep(self, context: SessionContext, *, stored: bool = False) -> SessionContext:
        """Cache a context; contexts whose row is `stored` are dropped first."""
        self._restored.discard(context.session_id)
        self._drop(self._cache.get(context.session_id))
        self._cache[context.session_id] = context
        self._numbers.add(context.number)
        if stored:
            self._cache.move_to_end(context.session_id, last=False)
        if len(self._cache) > _CACHED:
            self._drop(self._cache.popitem(last=False)[1])
        return context

    def _drop(self, context: SessionContext | None) -> None:
        """Forget the number of a session that leaves the cache."""
        if context is not None:
            self._numbers.discard(context.number)


def stored_contexts(database: RowsDatabase, generation: int | None = None) -> Contexts:
    """Make the Contexts for a pass over the log; it reads the rows of sessions.

    Args:
        database: The database of the rows.
        generation: The generation of the rows that a rebuild is making; None for the rows that are
            shown.

    Returns:
        The contexts, with an empty cache.
    """
    table = "sessions" if generation is None else generation_table("sessions", generation)

    def find(column: str, value: Value) -> Sequence[Value] | None:
        rows = database.query(f"SELECT {_COLUMNS} FROM {table} WHERE {column} = ?", (value,))
        return rows[0] if rows else None

    return Contexts(find, from_start=generation is not None)
