"""The interface of a view: a named, versioned set of tables that is built from events alone.

A view never sees the engine that keeps its rows. It is handed events and says what changes; the
projector writes that in bulk, in one transaction with the position it came from, so each event
counts exactly once, whatever crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeGuard

import msgspec

from lllm.events.backends.sqlite.database import Value
from lllm.events.envelope import Recorded
from lllm.events.errors import ViewError
from lllm.events.integrity.leaves import Leaves
from lllm.events.model import Event, SessionErased, SessionStarted

__all__ = [
    "Index",
    "Rows",
    "SessionContext",
    "Table",
    "View",
    "storable",
]

Key = tuple[Value, ...]
_TAKEN = ("events", "checkpoints", "erasures", "views_off")  # tables that stand in the same file
ColumnType = Literal["INTEGER", "TEXT", "REAL", "BLOB"]


def storable(text: str) -> str:
    """Escape lone surrogates in a text, because a row can only hold UTF-8.

    Args:
        text: Any text.

    Returns:
        The same text, unless it has lone surrogates.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Index(msgspec.Struct, frozen=True):
    """An index of a table.

    Attributes:
        columns: What rows are looked up by, in this order.
        unique: True if no two rows have the same.
        where: A condition in SQL, which leaves out the rows that nobody looks for by it.
    """

    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None


class Table(msgspec.Struct, frozen=True):
    """A table of a view.

    Attributes:
        name: Its name in SQL.
        columns: The type of each column, by its name.
        key: The names, among the columns, that tell one row from another.
        indexes: By what else rows are looked up.
        about: What it is for, a sentence or two for people who ask it in SQL.
        is_glossary: True if its rows only give numbers to names, so that one that no other row
            refers to any more does no harm; `rebuild` with `check` passes over it.
        search: The name under which a row is put with a text that is indexed word by word and not
            stored; None for most. Such a table has one integer for a key, and a row is put with its
            text once.
    """

    name: str
    columns: Mapping[str, ColumnType]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    about: str = ""
    is_glossary: bool = False
    search: str | None = None


def replayed_by(started: SessionStarted | SessionErased) -> str | None:
    """Find the id of the session that a new session replays.

    Args:
        started: How the new one begins, or what an erasure left of that.

    Returns:
        The id of the recorded session; None where it is no replay.
    """
    origin = started.origin
    return origin.session if origin is not None and origin.mode == "replay" else None


def forked_from(started: SessionStarted | SessionErased) -> str | None:
    """Find the id of the session that a new session is a fork of.

    Args:
        started: How the new one begins, or what an erasure left of that.

    Returns:
        The id of the other session; None where it is no fork.
    """
    origin = started.origin
    return origin.session if origin is not None and origin.mode == "fork" else None


class SessionContext(msgspec.Struct, frozen=True, gc=False):
    """The facts about a session that its first event gives.

    Attributes:
        number: The position of that event, which is the session's number in every table.
        session_id: The session's id.
        tactic_path: The path of its tactic.
        partition: The partition that it belongs to, "" for none.
        started: Nanoseconds UTC.
        parent: The session above, None for a root or where that one is unknown.
        is_replay: True for a replay of another session, which is in no list, count or sum but
            where replays are asked for.
    """

    number: int
    session_id: str
    tactic_path: str
    partition: str
    started: int
    parent: SessionContext | None = None
    is_replay: bool = False

    def chain(self) -> list[SessionContext]:
        """List this session and its ancestors, the root last."""
        above: list[SessionContext] = []
        session: SessionContext | None = self
        while session is not None:
            above.append(session)
            session = session.parent
        return above

    @property
    def root(self) -> SessionContext:
        """The root session above this one."""
        return self.chain()[-1]

    @property
    def outermost(self) -> bool:
        """True if no ancestor is a call of the same tactic."""
        return all(above.tactic_path != self.tactic_path for above in self.chain()[1:])


class ViewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is given to views, decoded once for all of them.

    Attributes:
        event: The event as it is recorded.
        payload: What it decodes to.
        session: The session that it is about; None for events outside of any session, or of one
            that this log does not know.
        is_residue: Of a `session.erased`: True if the session's own events were erased already when
            they were read, so that this event is all that the rows can be made from. False if they
            were read as they were written, so that the rows hold what has to go now.
    """

    event: Recorded
    payload: Event
    session: SessionContext | None
    is_residue: bool = False


class Rows(Protocol):
    """Reads and changes the rows of a view's tables, inside its `apply`."""

    def get(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """Read a row, including all changes so far.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key's columns.

        Returns:
            The other columns, None where there is no such row.
        """

    def put(self, table: str, key: Key, **columns: Value) -> None:
        """Set some columns of a row; a missing row is created.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key's columns.
            **columns: The values to set.
        """

    def add(self, table: str, key: Key, **deltas: int) -> None:
        """Add to integer columns of a row.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key's columns.
            **deltas: What to add; a row or value that is missing counts as zero.
        """

    def delete(self, table: str, key: Key, *, text: str | None = None) -> None:
        """Remove a row, if it is there.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key's columns.
            text: Of a table with `search`: the text that the row was put with, since only who knows
                its words can take them out of the index. None where it has none.
        """

    def events(self, stream: str) -> Iterator[Recorded]:
        """Read a stream from the log again, for a view that must know what it took from there.

        Args:
            stream: The stream of a session or statement.

        Yields:
            Its readable events in order, with the payloads that they have by now.
        """

    def delete_under(self, table: str, first: Value) -> None:
        """Remove all rows whose key begins with a value, such as a session's number.

        Args:
            table: The name of one of the view's tables.
            first: The value of the first column of the key.
        """


ERASED = "session.erased"


class View(Protocol):
    """A named set of tables built from events.

    A view that keeps anything of what sessions say lists `session.erased` (ERASED) among its types,
    and removes it in `apply` when that event comes: the payloads are still in the log then, and go
    when all views have taken it. A view that does not list it is rebuilt after each erasure, and is
    given no event without a payload; one that does gets those, too, as `Erased`.
    """

    @property
    def name(self) -> str:
        """The view's name, unique in a store."""

    @property
    def version(self) -> int:
        """A number to raise when the tables or their meaning change; rows are then rebuilt."""

    @property
    def types(self) -> Collection[str]:
        """The event types that the view needs; no others are decoded for it."""

    @property
    def tables(self) -> Sequence[Table]:
        """The view's tables."""

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the rows for some events.

        Args:
            rows: The rows of its tables.
            batch: The next events of the log that it wants, in order.
        """


ReadsRow = Callable[[str, Key], Mapping[str, Value] | None]
"""Reads a row by the name of its table and its key; None where there is no such row."""


class DigestView(View, Protocol):
    """A view that is also built from the digests of all events, whatever their types."""

    def apply_digests(self, rows: Rows, digests: Leaves, shown: ReadsRow) -> None:
        """Update the rows for some digests.

        Args:
            rows: The rows of its tables.
            digests: The next events of the log: their positions and digests, in order. A digest is
                None where the event can't be read.
            shown: Reads the rows as everybody sees them, which a rebuild replaces. They may know
                what the log can't tell any more.
        """


def takes_digests(view: View) -> TypeGuard[DigestView]:
    """True if a view is a DigestView.

    Args:
        view: Any view.
    """
    return hasattr(view, "apply_digests")  # isinstance takes microseconds


def check_names(views: Sequence[View]) -> None:
    """Check that the names of views and tables are valid and don't collide.

    Args:
        views: All views of a store.

    Raises:
        ViewError: Two share a name, or one can't be named so.
    """
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
