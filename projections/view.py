"""The interface of a view: a named, versioned set of tables that is built from events alone.

A view does not know the engine that stores its rows. It gets events and says which rows change. The
projector writes the changes in bulk, in one transaction with the position of the last event, so
each event counts exactly once, also after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeGuard

import msgspec

from lllm.events.envelope import Recorded
from lllm.events.integrity.leaves import Leaves
from lllm.events.model import Event, SessionResidue, SessionStarted
from lllm.projections.database import Value
from lllm.projections.session_context import SessionContext

__all__ = [
    "Index",
    "Rows",
    "SessionContext",
    "Table",
    "View",
    "storable",
]

Key = tuple[Value, ...]
ColumnType = Literal["INTEGER", "TEXT", "REAL", "BLOB", "JSON"]
"""JSON is jsonb in PostgreSQL, whose values are put as `JSONText`, and text elsewhere."""


def storable(text: str) -> str:
    """Escape lone surrogates in a text, because a row can only hold UTF-8.

    Args:
        text: Any text.

    Returns:
        The text with lone surrogates escaped.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Index(msgspec.Struct, frozen=True):
    """An index of a table.

    Attributes:
        columns: The columns by which rows are looked up, in this order.
        unique: True if no two rows may have the same values.
        where: An SQL condition; rows that don't match it are not in the index. "" for all rows.
        name: What its name ends in, where `columns` has expressions; None for the columns.
        postgres: True if it is made in PostgreSQL alone.
    """

    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None
    name: str | None = None
    postgres: bool = False

    def create(self, table: str) -> str:
        """Write the SQL that makes the index.

        Args:
            table: The name of the table in the database.

        Returns:
            A statement that every engine understands.
        """
        kind = "UNIQUE INDEX" if self.unique else "INDEX"
        name = f"{table}_by_{self.name or '_'.join(self.columns)}"
        columns = ", ".join(self.columns)
        where = f" WHERE {self.where}" if self.where else ""
        return f"CREATE {kind} {name} ON {table} ({columns}){where}"


class Table(msgspec.Struct, frozen=True):
    """A table of a view.

    Attributes:
        name: The name of the table in SQL.
        columns: The SQL type of each column, by the name of the column.
        key: The names of the columns that identify a row.
        indexes: The indexes for other look-ups.
        about: What the table is for, in a sentence or two for users who query it with SQL.
        is_glossary: True if its rows only assign numbers to names. An unused row does no harm then,
            and `rebuild` with `check` ignores it.
        search: The name under which `put` gets a text that is indexed by its words and not stored;
            None for most tables. Such a table has a single integer key, and each row is put with
            its text only once.
    """

    name: str
    columns: Mapping[str, ColumnType]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    about: str = ""
    is_glossary: bool = False
    search: str | None = None


def replayed_by(started: SessionStarted | SessionResidue) -> str | None:
    """Find the id of the session that a new session replays.

    Args:
        started: The first event of the new session, or the event of its erasure or archiving.

    Returns:
        The id of the recorded session; None if the new session is not a replay.
    """
    origin = started.origin
    return origin.session if origin is not None and origin.mode == "replay" else None


def forked_from(started: SessionStarted | SessionResidue) -> str | None:
    """Find the id of the session from which a new session was forked.

    Args:
        started: The first event of the new session, or the event of its erasure or archiving.

    Returns:
        The id of the other session; None if the new session is not a fork.
    """
    origin = started.origin
    return origin.session if origin is not None and origin.mode == "fork" else None


class ViewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as views get it, decoded once for all views.

    Attributes:
        event: The event as read from the log.
        payload: The payload of the event, decoded.
        session: The session that the event is about; None if there is none, or if the log does not
            have it.
        is_residue: For a `session.erased` or `session.archived`: True if the payloads of the
            session were already erased, or gone, when the log was read, so the rows have to be made
            from this event alone. False if they were read before, so the rows contain data that has
            to be removed now.
    """

    event: Recorded
    payload: Event
    session: SessionContext | None
    is_residue: bool = False


class Rows(Protocol):
    """Reads and changes the rows of a view's tables; passed to the view's `apply`."""

    def get(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """Read a row, including all changes so far.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key columns.

        Returns:
            The other columns; None if there is no such row.
        """

    def put(self, table: str, key: Key, **columns: Value) -> None:
        """Set some columns of a row; a missing row is created.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key columns.
            **columns: The new values, by the names of the columns.
        """

    def add(self, table: str, key: Key, **deltas: int) -> None:
        """Add numbers to integer columns of a row.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key columns.
            **deltas: The numbers to add, by the names of the columns; a missing row or value counts
                as zero.
        """

    def delete(self, table: str, key: Key, *, text: str | None = None) -> None:
        """Remove a row, if it is there.

        Args:
            table: The name of one of the view's tables.
            key: The values of the key columns.
            text: In a table with `search`: the text of the row, because its words can only be
                removed from the index with it. None if the table has no `search`.
        """

    def events(self, stream: str) -> Iterator[Recorded]:
        """Read a stream from the log again, for a view that has to know what it took from it.

        Args:
            stream: The stream of a session or statement.

        Yields:
            The readable events of the stream in order, with their present payloads.
        """

    def delete_under(self, table: str, first: Value) -> None:
        """Remove all rows whose key begins with a value, such as a session's number.

        Args:
            table: The name of one of the view's tables.
            first: The value of the first key column.
        """


ERASED = "session.erased"
ARCHIVED = "session.archived"
RESTORED = "session.restored"


class View(Protocol):
    """A named set of tables built from events.

    A view that stores anything that users, tools or models wrote has to list `session.erased`
    (ERASED) among its types, and to remove the data of that session in `apply` when the event
    comes. The payloads are still in the log then; they are removed when all views have applied the
    event. A view that does not list it is rebuilt after each erasure and gets no erased events. A
    view that lists it gets these, too, with `Erased` as payload.
    """

    @property
    def name(self) -> str:
        """The view's name, unique in a store."""

    @property
    def version(self) -> int:
        """A number to raise when the tables or their meaning change; the rows are then rebuilt."""

    @property
    def types(self) -> Collection[str]:
        """The event types that the view needs; it gets no others."""

    @property
    def tables(self) -> Sequence[Table]:
        """The view's tables."""

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the rows for some events.

        Args:
            rows: The rows of the view's tables.
            batch: The next events of the log that have the view's types, in order.
        """


ReadsRow = Callable[[str, Key], Mapping[str, Value] | None]
"""A function that returns a row by the name of its table and its key; None if there is none."""


class DigestView(View, Protocol):
    """A view that is also built from the digests of all events, of any type."""

    def apply_digests(self, rows: Rows, digests: Leaves, shown: ReadsRow) -> None:
        """Update the rows for some digests.

        Args:
            rows: The rows of the view's tables.
            digests: The positions and digests of the next events of the log, in order. A digest is
                None if the event can't be read.
            shown: Reads the rows that users see at present and that a rebuild will replace. They
                may have information that a damaged log has lost.
        """


def takes_digests(view: View) -> TypeGuard[DigestView]:
    """True if a view is a DigestView.

    Args:
        view: The view, of any class.

    Returns:
        True if it has `apply_digests`.
    """
    return hasattr(view, "apply_digests")  # isinstance with a protocol takes microseconds
