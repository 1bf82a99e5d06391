"""Which session an event belongs to, and what stands above it.

Kept for the sessions met lately; for others it is read from their rows, so that catching up in the
middle of a long session costs one look-up, not a walk through the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from lllm.events.backends.sqlite.database import Value
from lllm.events.envelope import Recorded
from lllm.events.model import Ancestor, Event, SessionStarted
from lllm.projections.view import SessionContext, ViewEvent, storable

_KEPT = 50_000  # sessions; more than one batch can start, so that none is needed and not yet stored

# Where a row is looked up: a column and its value -> the columns below, or None.
FindRow = Callable[[str, Value], Sequence[Value] | None]
COLUMNS = "number, id, tactic, partition, started, parent"


class Contexts:
    """The contexts of sessions, by id, for one pass over the log: what was kept of a pass that was
    given up is of no use to the next. find_row: reads one stored row, by a column's value."""

    def __init__(self, find_row: FindRow) -> None:
        self._find_row = find_row
        self._kept: OrderedDict[str, SessionContext] = OrderedDict()

    def happened(self, event: Recorded, payload: Event) -> ViewEvent:
        """An event with the session that it is about."""
        if isinstance(payload, SessionStarted):
            # A session begins once: with the first event of its stream.
            return ViewEvent(
                event, payload, self._start(event, payload) if event.seq == 1 else None
            )
        about = getattr(payload, "about", None)
        return ViewEvent(event, payload, self.of(about if isinstance(about, str) else event.stream))

    def of(self, session_id: str) -> SessionContext | None:
        """A session's context; None where this log does not know it."""
        found = self._kept.get(session_id)
        if found is not None:
            self._kept.move_to_end(session_id)
            return found
        if storable(session_id) != session_id:
            return None  # a row's id is UTF-8
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
        number, session_id, tactic, partition, started, parent = row
        above = None
        if isinstance(parent, int) and isinstance(number, int) and parent < number:
            above = self._load("number", parent)  # no row of ours is its own ancestor
        return self._keep(
            SessionContext(
                number if isinstance(number, int) else 0,
                str(session_id),
                str(tactic),
                str(partition),
                started if isinstance(started, int) else 0,
                above,
            ),
            stored=True,
        )

    def _keep(self, context: SessionContext, *, stored: bool = False) -> SessionContext:
        """stored: whether its row can be read again, so that it is the first to be forgotten."""
        self._kept[context.session_id] = context
        if stored:
            self._kept.move_to_end(context.session_id, last=False)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return context
