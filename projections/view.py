"""What a view is: a named, versioned set of tables, built from events and from nothing else.

A view never sees the engine that keeps its rows. It is handed events and says what changes; the
projector writes that in bulk, in one transaction with the position it came from, so each event
counts exactly once, whatever crashes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from lllm.events.backends.sqlite.database import Value
from lllm.events.envelope import Recorded
from lllm.events.errors import ViewError
from lllm.events.model import Event

__all__ = [
    "Index",
    "Rows",
    "SessionContext",
    "Table",
    "View",
    "storable",
]

Key = tuple[Value, ...]
_TAKEN = ("events", "checkpoints")  # tables that stand in the same file
ColumnType = Literal["INTEGER", "TEXT", "REAL", "BLOB"]


def storable(text: str) -> str:
    """A text as a row can hold it: UTF-8 has no lone surrogates, so they become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Index(msgspec.Struct, frozen=True):
    """An index of a table; `where` leaves out the rows that nobody looks for by it."""

    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None


class Table(msgspec.Struct, frozen=True):
    """A table of a view.

    key: the names, among the columns, that tell one row from another. about: what it is for, a
    sentence or two for people who ask it in SQL.
    """

    name: str
    columns: Mapping[str, ColumnType]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    about: str = ""


class SessionContext(msgspec.Struct, frozen=True, gc=False):
    """What is known of a session from its first event on.

    number: the position of that event, the session's number in every table. started: nanoseconds
    UTC. parent: the session above, None for a root (or where that one is unknown).
    """

    number: int
    session_id: str
    tactic_path: str
    partition: str
    started: int
    parent: SessionContext | None = None

    def chain(self) -> list[SessionContext]:
        """This session and those above it, root last."""
        above: list[SessionContext] = []
        session: SessionContext | None = self
        while session is not None:
            above.append(session)
            session = session.parent
        return above

    @property
    def root(self) -> SessionContext:
        """The session at the top."""
        return self.chain()[-1]

    @property
    def outermost(self) -> bool:
        """Whether no session above is a call of the same tactic."""
        return all(above.tactic_path != self.tactic_path for above in self.chain()[1:])


class ViewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as views get it: decoded once for all of them, with the session that it is about
    (None for events outside any session, or of one that this log does not know)."""

    event: Recorded
    payload: Event
    session: SessionContext | None


class Rows(Protocol):
    """The rows of a view's tables, as its `apply` reads and changes them."""

    def get(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """A row's columns (the key's not among them) with every change so far, or None."""

    def put(self, table: str, key: Key, **columns: Value) -> None:
        """Set the named columns and leave the others, making the row where there is none."""

    def add(self, table: str, key: Key, **deltas: int) -> None:
        """Add to integer columns, exactly; a row or value that is missing counts as zero."""

    def delete(self, table: str, key: Key) -> None:
        """Remove a row, if it is there."""


class View(Protocol):
    """A named set of tables built from events.

    version: raise it when the tables or their meaning change; they are built anew then.
    types: the events it wants; others are never decoded for it.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def types(self) -> Collection[str]: ...
    @property
    def tables(self) -> Sequence[Table]: ...

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Say what these events, the next of the log in order, change."""


def next_number(rows: Rows, counter: str) -> int:
    """1, 2, 3 ... from a table of one row, with the key 0, that keeps the `last` number given."""
    row = rows.get(counter, (0,))
    number = (int(row["last"] or 0) if row else 0) + 1
    rows.put(counter, (0,), last=number)
    return number


def check_names(views: Sequence[View]) -> None:
    """Raise ViewError where two views share a name or a table, or one can not be named so."""
    names = [view.name for view in views]
    tables = [table.name for view in views for table in view.tables]
    for name in names + tables:
        if not (name.isidentifier() and name.isascii()) or name in _TAKEN:
            raise ViewError(
                f"{name!r} can't name a view or table: use letters, digits and _, and none of "
                f"{', '.join(_TAKEN)}."
            )
    for what, given in (("views", names), ("tables", tables)):
        twice = {name for name in given if given.count(name) > 1}
        if twice:
            raise ViewError(f"Two {what} have the name {min(twice)!r}; rename one of them.")
