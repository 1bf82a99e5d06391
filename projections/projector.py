"""Brings the rows of all views up to date with the log.

Views pull: a read first catches up to the head of the log, in one pass for all views. Each batch is
read and applied in memory, then written in one short transaction with the checkpoint, so that every
event counts exactly once and appenders never wait long. One process projects at a time; a lock file
says which.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from pathlib import Path

import msgspec

from lllm.events import codec
from lllm.events.database import Database, Value
from lllm.events.errors import ViewError
from lllm.events.locks import FileLock, Held, tell_after_fork
from lllm.events.log import LogBackend, read_types
from lllm.events.model import EVENTS
from lllm.projections.contexts import COLUMNS, Contexts
from lllm.projections.rows import Changes, physical
from lllm.projections.view import Happened, Key, View

BATCH = 400  # events applied in one transaction; the commit stays below about 10 ms
_AT_ONCE = 400  # events decoded at once: few enough to stay in the processor's cache

_CHECKPOINTS = """CREATE TABLE IF NOT EXISTS checkpoints (
    view TEXT PRIMARY KEY, version INTEGER, generation INTEGER, position INTEGER, known TEXT
) WITHOUT ROWID"""


_TAKEN = ("events", "checkpoints")  # tables that stand in the same file


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a view's rows have come, and what built them.

    version: of the view; known: the event types and versions that the library knew then. Where
    either is another now, the rows are built anew.
    """

    version: int
    generation: int
    position: int
    known: str

    def ahead_of(self, view: View) -> bool:
        """Whether a newer version of the view built the rows, or from events that this library
        can't read."""
        if self.version > view.version:
            return True
        pairs = msgspec.json.decode(self.known or "[]", type=list[tuple[str, int]])
        return any(v > (EVENTS[name].version if name in EVENTS else 0) for name, v in pairs)


def known_events(view: View) -> str:
    """The (type, version) pairs behind a view's rows, as a checkpoint keeps them."""
    pairs = sorted((name, EVENTS[name].version if name in EVENTS else 0) for name in view.types)
    return codec.encode(pairs).decode()


def is_stale(view: View, found: Checkpoint | None) -> bool:
    """Whether a view's rows have to be built anew, by what is stored of them."""
    if found is None or found.version < view.version:
        return True
    return not found.ahead_of(view) and found.known != known_events(view)


def can_go_on(database: Database, views: Sequence[View]) -> bool:
    """Whether a database has rows of all these views, none of them stale."""
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'"):
        return False
    found = read_checkpoints(database)
    return not any(is_stale(view, found.get(view.name)) for view in views)


class Projector:
    """The views of one log and the database of their rows.

    lock: the lock file that says who projects; None where no other process can.

    Raises ViewError where two views have a name or a table in common.
    """

    def __init__(
        self, log: LogBackend, database: Database, views: Sequence[View], lock: Path | None
    ) -> None:
        self.log = log
        self.database = database
        self.views = tuple(views)
        _check_names(self.views)
        self._threads = threading.Lock()  # not reentrant: the collector may end a session inside
        self.rebuilding = threading.Lock()
        self._lock = FileLock(lock) if lock is not None else None
        self.contexts = Contexts(self._find_session)
        if not database.read_only:
            with database.write() as connection:
                assert connection is not None
                connection.execute(_CHECKPOINTS)
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._threads = threading.Lock()
        self.rebuilding = threading.Lock()

    # -- where things stand

    def checkpoints(self) -> dict[str, Checkpoint]:
        """What is stored of each view, of this library's or another's."""
        return read_checkpoints(self.database)

    def stale(self) -> list[View]:
        """The views whose rows can't be gone on with: there are none yet, an older version built
        them, or they tell of events that the log has lost, as with the loss of power."""
        found, head = self.checkpoints(), self.log.head()
        return [
            view
            for view in self.views
            if is_stale(view, found.get(view.name))
            or (view.name in found and found[view.name].position > head)
        ]

    def buildable(self) -> list[View]:
        """The views whose rows no newer version of lllm has built."""
        found = self.checkpoints()
        return [
            view
            for view in self.views
            if view.name not in found or not found[view.name].ahead_of(view)
        ]

    def lag(self) -> int:
        """How far the rows are behind the head of the log, in positions."""
        found = self.checkpoints()
        positions = [found[view.name].position for view in self.views if view.name in found]
        if len(positions) < len(self.views):
            return self.log.head()
        return max(self.log.head() - min(positions, default=0), 0)

    # -- catching up

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Bring every view up to the head of the log as it is now.

        timeout: seconds to wait for another process that is catching up. Returns False where that
        took longer, or the rows may not be written: they are then those of the checkpoint.
        """
        head = self.log.head()
        if not self._behind(self.checkpoints(), head):
            return True
        if self.database.read_only:
            return False
        with self.alone(timeout) as mine:
            if mine:
                self.pull(head)
            return mine

    @contextmanager
    def alone(self, timeout: float | None = None) -> Iterator[bool]:
        """Hold the lock of whoever projects; False where `timeout` seconds were not enough."""
        with Held(self._threads, self._lock, timeout) as mine:
            yield mine

    def _behind(self, found: Mapping[str, Checkpoint], head: int) -> bool:
        return any(
            view.name not in found
            or found[view.name].position < head
            or is_stale(view, found[view.name])
            for view in self.views
        )

    def pull(self, head: int) -> None:
        """Apply the log to every view whose rows this library can go on with; needs the lock."""
        found = self.checkpoints()
        ready = {
            view: found[view.name]
            for view in self.views
            # Rows that a newer version built are its own to go on with.
            if view.name in found
            and found[view.name].version == view.version
            and not found[view.name].ahead_of(view)
        }
        if ready and min(at.position for at in ready.values()) < head:
            self.contexts.forget()
            for _ in self.feed(ready, head, self.contexts):
                pass

    def feed(
        self,
        views: Mapping[View, Checkpoint],
        upto: int,
        contexts: Contexts,
        batch: int = BATCH,
    ) -> Iterator[int]:
        """Apply the log to `views`, from their checkpoints up to a position, a batch at a time.

        Yields the position reached after each batch is written.
        """
        generations = {view: at.generation for view, at in views.items()}
        start = min(at.position for at in views.values())
        types = sorted({name for view in views for name in view.types} | {"session.started"})
        events = read_types(self.log, types, after=start, upto=upto)
        changes = Changes(generations, self._read_by_key)
        reached = start
        while reached < upto:
            taken = 0
            while taken < batch and (some := list(islice(events, min(_AT_ONCE, batch - taken)))):
                taken += len(some)
                reached = some[-1].position
                _apply(
                    views,
                    changes,
                    [contexts.happened(event, codec.decode(event)) for event in some],
                )
            if taken < batch:
                reached = upto
            with self.database.write() as connection:
                assert connection is not None
                changes.write(connection)
                _advance(connection, generations, reached)
            yield reached

    def _read_by_key(self, select: str, key: Key) -> list[tuple[Value, ...]]:
        return self.database.query(select, key)

    def _find_session(self, column: str, value: Value) -> Sequence[Value] | None:
        rows = self.database.query(f"SELECT {COLUMNS} FROM sessions WHERE {column} = ?", (value,))
        return rows[0] if rows else None

    def contexts_of(self, generation: int) -> Contexts:
        """Contexts read from the rows that a rebuild is making of the sessions."""
        table = physical("sessions", generation)

        def find(column: str, value: Value) -> Sequence[Value] | None:
            sql = f"SELECT {COLUMNS} FROM {table} WHERE {column} = ?"
            rows = self.database.query(sql, (value,))
            return rows[0] if rows else None

        return Contexts(find)

    def close(self) -> None:
        """Let go of the lock file; the database is its owner's to close."""
        if self._lock is not None:
            self._lock.close()


def read_checkpoints(database: Database) -> dict[str, Checkpoint]:
    """The stored checkpoint of each view."""
    rows = database.query("SELECT view, version, generation, position, known FROM checkpoints")
    return {
        str(view): Checkpoint(
            int(version or 0), int(generation or 0), int(position or 0), str(known)
        )
        for view, version, generation, position, known in rows
    }


def _advance(
    connection: sqlite3.Connection, generations: Mapping[View, int], position: int
) -> None:
    connection.executemany(
        "UPDATE checkpoints SET position = max(position, ?) WHERE view = ? AND generation = ?",
        [(position, view.name, generation) for view, generation in generations.items()],
    )


def _check_names(views: Sequence[View]) -> None:
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


def _apply(
    views: Mapping[View, Checkpoint], changes: Changes, happened: Sequence[Happened]
) -> None:
    kinds = [one.event.type for one in happened]
    first = happened[0].event.position
    for view, at in views.items():
        mine = list(compress(happened, map(frozenset(view.types).__contains__, kinds)))
        if at.position >= first:
            mine = [one for one in mine if one.event.position > at.position]
        if mine:
            view.apply(changes, mine)
