"""A log in an SQLite file, for production; users can also query it with SQL.

The log and the rows are in the one file that the user named; a folder `<file>-lllm` beside it has
the locks. Positions are rowids: AUTOINCREMENT never reuses one, and every append is one exclusive
transaction, so events become visible in the order of their positions.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lllm.events.backends.location import MEMORY, sqlite_path
from lllm.events.backends.sqlite.append_events import append_events
from lllm.events.backends.sqlite.database import Database, Durability
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.backends.sqlite.read_events import ReadsEventRows
from lllm.events.backends.sqlite.salvaged_rows import SalvagedRows
from lllm.events.backends.sqlite.schema import FORMAT, SCHEMA
from lllm.events.backends.sqlite.shared_database import SharedDatabase, open_shared
from lllm.events.concurrency.liveness import Liveness
from lllm.events.envelope import (
    NewEvent,
    Recorded,
)
from lllm.events.errors import LogDamaged, LogError, LogReadOnly, LogUnavailable
from lllm.events.files.permissions import checked_mode, folder_mode, mode_like

if TYPE_CHECKING:
    from lllm.events.backend import Progress
    from lllm.events.damage import Readable
    from lllm.events.health import Health
    from lllm.events.integrity.repair import Repaired

_LEAST_PAGE = 512  # bytes; a database consists of whole pages
_ADVICE = (
    "What its pages hold can be read, and nothing is written to it until `lllm repair` has made a "
    "whole file of that."
)
_Reopen = Callable[[Path, Durability, bool, int | None], "SQLiteBackend"]


class SQLiteBackend(ReadsEventRows):
    """Keeps the log in one SQLite file.

    Args:
        path: The file; created if it does not exist. ":memory:" for a log that is lost when the
            process ends.
        durability: "process": events survive kill -9. "power": they survive a loss of power, too,
            and each append takes an fsync.
        read_only: True to write nothing, not even beside the file, which may be on a read-only
            medium; an append raises LogReadOnly.
        mode: The permissions of new files, independent of the umask, as 0o660 for a store that a
            group shares; None for 0o600, or for the permissions of an existing shared store.
            Existing files are not changed.

    Attributes:
        damage: The error if SQLite can't open the file and its pages are read instead; an append
            raises it. None for a sound file.

    Raises:
        LogUnavailable: The file can't be opened or created.
        LogTooNew: A newer lllm wrote the log.
        LogDamaged: SQLite can't open the file, and none of its pages holds an event.
        LogError: The file is not a log of lllm.
    """

    rows_in_log = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        read_only: bool = False,
        mode: int | None = None,
    ) -> None:
        self.mode = checked_mode(mode)
        self.path = _absolute(path)
        self.liveness: Liveness | None = None
        self.durability = durability
        self.read_only = read_only
        self.database: Database
        self.salvaged: SalvagedRows | None = None
        self.damage: LogDamaged | None = None
        if isinstance(self.path, Path):
            self._open_or_salvage(self.path)
        elif read_only:
            raise LogUnavailable(
                "A log in memory is empty at first, so it can't be opened with read_only."
            )
        else:
            self.database = Database(
                self.path, lock=None, version=FORMAT, schema=SCHEMA, durability=durability
            )

    def _open_or_salvage(self, path: Path) -> None:
        self.salvaged = SalvagedRows(path)
        try:
            self._open(path)
        except LogError as error:
            if not _can_have_pages(error, path):
                raise
            self._read_from_pages(path, self.salvaged, error)

    def _open(self, path: Path) -> None:
        self.database, self.liveness = open_shared(
            self, path, version=FORMAT, schema=SCHEMA, durability=self.durability,
            read_only=self.read_only, mode=self.mode,
        )  # fmt: skip

    def _read_from_pages(self, path: Path, salvaged: SalvagedRows, error: LogError) -> None:
        """Read the events of a file that SQLite can't open from the pages of the file.

        Raises:
            LogError: The pages hold no events; the error is the one that SQLite's error was turned
                into.
        """
        with FileErrors(path):
            self._damaged_file = os.stat(path).st_ino
        whole = salvaged.all_of()
        if not whole.query("SELECT 1 FROM events LIMIT 1"):
            salvaged.close()
            raise error
        why = error if isinstance(error, LogDamaged) else f"{path}: its first page can't be read."
        self.damage = LogDamaged(f"{why} {_ADVICE}", position=0)
        self.database = SharedDatabase(whole, salvaged.close, read_only=True)
        locks = path.with_name(f"{path.name}-lllm")
        mode = mode_like(locks, path) if self.mode is None else self.mode
        self.liveness = Liveness(locks, mode=folder_mode(mode))

    def _refuse_damage(self, damage: LogDamaged) -> None:
        """Raise the damage that was found when opening, unless the file was repaired since."""
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        path = Path(self.path)
        with FileErrors(path):
            if os.stat(path).st_ino == self._damaged_file:
                raise damage
        before = self.database
        self._open(path)
        self.damage = None
        before.close()

    def __repr__(self) -> str:
        return f"SQLiteBackend({str(self.path)!r})"

    def __reduce__(self) -> tuple[_Reopen, tuple[Path, Durability, bool, int | None]]:
        """Pickle the backend by its path; another process opens the file again."""
        if isinstance(self.path, str):
            raise TypeError("A store in memory can't go to another process; give it a file.")
        return _reopen, (self.path, self.durability, self.read_only, self.mode)

    def rows_database(self) -> Database:
        """The database for the rows of projections, which is the log's own file."""
        return self.database

    def readable(self) -> Readable:
        """Read past damage; see `ReadsPastDamage`."""
        from lllm.events.backends.sqlite.readable_rows import ReadableRows

        return ReadableRows(self)

    def copy_to(self, copy: Path, progress: Progress | None) -> tuple[int, int]:
        """Copy the file; see `CopiesFiles`."""
        from lllm.events.backends.sqlite.copy import copy_database

        return copy_database(self.database, copy, progress)

    def repair(self) -> Repaired:
        """Repair the file; see `CanBeRepaired`."""
        from lllm.events.backends.sqlite.repair import repair_log

        return repair_log(self)

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Overwrite the payloads of events; see `ErasesPayloads`."""
        from lllm.events.backends.sqlite.erasing import erase_rows

        if self.damage is not None:
            self._refuse_damage(self.damage)
        erase_rows(self.database, erased)

    def remove_events(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Remove events and keep their digests; see `RemovesEvents`."""
        from lllm.events.backends.sqlite.archived_leaves import remove_rows

        if self.damage is not None:
            self._refuse_damage(self.damage)
        remove_rows(self.database, leaves)

    def vacuum(self) -> bool:
        """Rewrite the file without copies of erased data; see `ErasesPayloads`."""
        from lllm.events.backends.sqlite.erasing import vacuum

        return vacuum(self.database)

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the size, format and files; see `ReportsHealth`."""
        from lllm.events.backends.sqlite.health import health_of

        del read_bytes  # positions are numbers of events
        return health_of(self, head)

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, as `LogBackend.append` requires."""
        positions = self._append(events, timeout=None)
        assert positions is not None
        return positions

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """Append without waiting for a lock; see `AppendsWithoutWaiting`."""
        return self._append(events, timeout=0)

    def at_write(self) -> bool:
        """True if the current thread is inside a write; see `KnowsNesting`."""
        return self.database.at_write()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current write has ended; see `KnowsNesting`."""
        self.database.when_written(work)

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """Append, but wait no longer than some seconds; see `AppendsWithin`."""
        return self._append(events, timeout=seconds)

    def _append(self, events: Sequence[NewEvent], *, timeout: float | None) -> Sequence[int] | None:
        if not events:
            return ()
        if self.damage is not None:
            self._refuse_damage(self.damage)
        if self.at_write():  # a signal handler inside a write must not wait for that write
            self.when_written(partial(self.append, events))
            return ()
        return append_events(self.database, events, timeout, self.path)

    def close(self) -> None:
        """Close the store's share of the file; the last store closes the connections."""
        self.database.close()
        if self.salvaged is not None:
            self.salvaged.close()


def _absolute(path: str | os.PathLike[str]) -> Path | Literal[":memory:"]:
    """Make the path of a file absolute; ":memory:" stays as it is."""
    file = sqlite_path(path)
    if file == MEMORY:
        return ":memory:"
    found = Path(file).absolute()
    if os.path.isdir(found):  # if this check is not permitted, opening the file raises the error
        raise LogUnavailable(
            f"{found} is a folder, and SQLiteBackend keeps its log in a file; "
            "LocalFileBackend keeps one in a folder."
        )
    # SQLite follows links and puts its -wal file beside the target; so do our locks.
    return Path(os.path.realpath(found)) if os.path.islink(found) else found


def _can_have_pages(error: LogError, path: Path) -> bool:
    """True if a file that SQLite can't open may be a log with damaged first pages."""
    if isinstance(error, LogDamaged):
        return True
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_NOTADB and os.stat(path).st_size % _LEAST_PAGE == 0


def _reopen(path: Path, durability: Durability, read_only: bool, mode: int | None) -> SQLiteBackend:
    return SQLiteBackend(path, durability=durability, read_only=read_only, mode=mode)
