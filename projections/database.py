"""What views, queries and the engine need of a database of rows, whichever program keeps it.

SQLite's `Database` and the rows in PostgreSQL both have these methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from lllm.events.concurrency.locks import ProcessLock
from lllm.events.errors import LogError

Value = str | int | float | bytes | None
Row = tuple[Value, ...]
Statement = tuple[str, list[Row]]  # SQL, and the parameters of each execution


class JSONText(str):
    """The text of a JSON value, for a column of the type JSON."""

    __slots__ = ()


class DuplicateRow(Exception):
    """A row has the values of another one in a unique index."""


class NoSuchTable(LogError):
    """A statement names a table or a column that does not exist."""


class Cursor(Protocol):
    """The result of a statement, as PEP 249 has it (https://peps.python.org/pep-0249/)."""

    def fetchone(self) -> Any:
        """Read the next row, a tuple; None after the last one."""

    def fetchall(self) -> list[Any]:
        """Read all other rows."""

    def fetchmany(self, size: int, /) -> list[Any]:
        """Read at most `size` of the next rows."""

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...


class RowsConnection(Protocol):
    """A connection to the rows; `lllm.projections.dialect` says in which SQL it is asked."""

    @property
    def engine(self) -> str:
        """The database engine: "sqlite" or "postgres"."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run a statement, with `?` in place of each parameter."""

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> object:
        """Run a statement once for each row of parameters."""


class RowsTransaction(Protocol):
    """A context manager for a transaction; its value is None if the time to begin was over."""

    def __enter__(self) -> RowsConnection | None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> object: ...

    def abandon(self) -> None:
        """Release everything if an interrupt kept the `with` from doing it."""


class RowsDatabase(Protocol):
    """The database of a store's rows.

    Its methods raise LogUnavailable if the database can't be reached, and LogDamaged if it can't be
    read.
    """

    @property
    def engine(self) -> str:
        """The database engine: "sqlite" or "postgres"."""

    @property
    def read_only(self) -> bool:
        """True if rows can't be written."""

    @property
    def path(self) -> Path | str:
        """The file, ":memory:", or the address without its password."""

    @property
    def lock_folder(self) -> Path | None:
        """The folder of lock files; None if no other process reaches the rows by files."""

    def process_lock(self, name: str) -> ProcessLock | None:
        """Make the lock of this name between the processes that use the rows.

        Args:
            name: The name, as "rebuild.lock".

        Returns:
            The lock, which the caller closes; None if no other process reaches the rows.
        """

    def query(self, sql: str, parameters: Sequence[Any] = ...) -> list[Row]:
        """Run a SELECT and return all its rows."""

    def snapshot(self) -> AbstractContextManager[RowsConnection]:
        """Get a connection for reading, for a `with` block."""

    def write(self, *, timeout: float | None = ...) -> RowsTransaction:
        """Begin a transaction that waits at most `timeout` seconds for other writers."""

    def at_write(self) -> bool:
        """True if this thread is inside a write."""

    def state(self) -> object:
        """Return a value that changes with every commit, by any process."""

    def vacuum(self) -> None:
        """Rewrite what is stored, without deleted rows."""

    def empty_write_ahead_log(self) -> bool:
        """Remove deleted rows from the database's own log; False if a reader still needs it."""

    def close(self) -> None:
        """Close every connection."""
