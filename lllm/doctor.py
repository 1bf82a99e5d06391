"""Looks at a store and says how it is, in plain words, and what to do.

It reads as every command does: the rows are brought up to date first, and sessions of dead
processes are found. Whatever goes wrong meanwhile is said, and the rest is looked at.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from lllm.checkup import Checkup, DatabaseFacts, Gap, LogFacts, RowFacts, ViewFacts
from lllm.diagnosis import diagnosed
from lllm.events import codec
from lllm.events.backup import stopped_backups
from lllm.events.database import Database
from lllm.events.errors import LllmError, LogDamaged
from lllm.events.jsonl import LocalFileBackend
from lllm.events.liveness import Liveness
from lllm.events.locks import is_held
from lllm.events.log import KnowsItsEnd, read_types
from lllm.events.memory import MemoryBackend
from lllm.events.model import LogGap, SessionErased
from lllm.events.record import Recorded
from lllm.events.segments import blocks, segments_of
from lllm.events.sqlite import SQLiteBackend
from lllm.projections import queries
from lllm.projections.checkpoints import Checkpoint
from lllm.store import LogStore
from lllm.surroundings import Place, place_of
from lllm.times import zone_of

_READ_BYTES = 256 << 20  # of a log that is read through without being asked: a second or two
_TROUBLES = 10  # that are told
_GENERATION = re.compile(r"(.+)_v(\d+)")  # the name of a table of rows


def examine(store: LogStore, *, thorough: bool = False, tz: str | dt.tzinfo = dt.UTC) -> Checkup:
    """What there is to say of a store.

    thorough: read the whole log, however large, and have SQLite check the pages of its file.
    tz: the zone of the times in the remarks, see `lllm.times.zone_of`.

    Raises LogError where nothing can be read of it at all.
    """
    troubles: list[str] = []
    lag = 0
    head = store.log.head()  # what others write from now on is no lag
    with _telling(troubles):
        lag = store.lag
        store.list_sessions(limit=0)  # so that rows follow the log, and the dead are found
    with _telling(troubles):
        if isinstance(store.backend, KnowsItsEnd):
            store.backend.check_end()
    found = Checkup(
        log=_log(store, head, troubles, thorough=thorough),
        rows=_rows(store, head, lag, troubles),
        database=_database(_file(store), troubles, thorough=thorough),
        place=_place(store, troubles),
        stopped_backups=_stopped_backups(store),
        troubles=tuple(troubles[:_TROUBLES]),
    )
    return diagnosed(found, zone_of(tz))


@contextmanager
def _telling(troubles: list[str]) -> Iterator[None]:
    """What goes wrong is remembered, and the look goes on."""
    try:
        yield
    except (LllmError, OSError, sqlite3.Error) as error:
        if str(error) not in troubles:
            troubles.append(str(error))


# -- the log


def _path(store: LogStore) -> Path | None:
    """The file or folder of a log, None where it is in none that we know."""
    backend = store.backend
    if isinstance(backend, SQLiteBackend | LocalFileBackend) and isinstance(backend.path, Path):
        return backend.path
    return None


def _locks(store: LogStore) -> Path | None:
    """Where the writers of a log hold their locks."""
    path = _path(store)
    if path is None:
        return None
    return path / "locks" if path.is_dir() else path.with_name(f"{path.name}-lllm")


def _log(store: LogStore, head: int, troubles: list[str], *, thorough: bool) -> LogFacts:
    backend, path = store.backend, _path(store)
    is_sqlite, is_folder = (isinstance(backend, c) for c in (SQLiteBackend, LocalFileBackend))
    size = None if path is None else _bytes_of(path)
    through = thorough or (size or 0) <= _READ_BYTES
    events: int | None = head if isinstance(backend, SQLiteBackend | MemoryBackend) else None
    gaps, erased = _search(store, head, troubles) if through else (None, None)
    if path is not None and is_folder and through:
        with _telling(troubles):
            events = _count_lines(path, head)
    return LogFacts(
        kind="sqlite" if is_sqlite else "jsonl" if is_folder else type(backend).__name__,
        path=None if path is None else str(path),
        format=_format(store),
        durability=getattr(backend, "durability", None),
        read_only=store.read_only,
        bytes=size,
        head=head,
        events=events,
        gaps=gaps,
        erased=erased,
        held=len(store.log.held),
        torn_bytes=_torn_bytes(path, head) if path is not None and is_folder else 0,
    )


def _bytes_of(path: Path) -> int:
    """Of the file, or of the segments in the folder."""
    files = [segment.path for segment in segments_of(path)] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _format(store: LogStore) -> int | None:
    with suppress(LllmError, OSError, ValueError, KeyError, TypeError):
        if isinstance(store.backend, SQLiteBackend):
            return int(str(store.backend.database.query("PRAGMA user_version")[0][0]))
        if isinstance(store.backend, LocalFileBackend):
            return int(json.loads((store.backend.path / "log.json").read_bytes())["format"])
    return None


def _count_lines(folder: Path, head: int) -> int:
    count = 0
    for segment in segments_of(folder):
        with FileIO(segment.path) as file:
            count += sum(data.count(b"\n") for _, data in blocks(file, 0, head - segment.begin))
    return count


def _torn_bytes(folder: Path, head: int) -> int:
    with suppress(OSError):
        for segment in segments_of(folder)[-1:]:
            return max(segment.begin + segment.path.stat().st_size - head, 0)
    return 0


def _search(store: LogStore, head: int, troubles: list[str]) -> tuple[tuple[Gap, ...], int]:
    """The gaps of a log, and how many of its sessions were erased."""
    gaps, erased = [], 0
    for event in _readable(store, head, troubles):
        payload = codec.decode(event)
        erased += isinstance(payload, SessionErased)
        if isinstance(payload, LogGap):
            times = payload.first_time, payload.last_time
            gaps.append(Gap(event.position, payload.lost, *times, payload.reason))
    return tuple(gaps), erased


def _readable(store: LogStore, head: int, troubles: list[str]) -> Iterator[Recorded]:
    """What can be read of the events that are looked for."""
    after = 0
    while after < head and len(troubles) < _TROUBLES:
        began = after
        with _telling(troubles):
            try:
                yield from read_types(
                    store.log, (LogGap.type, SessionErased.type), after=after, upto=head
                )
                return
            except LogDamaged as damage:
                after = damage.position
                raise
        if after <= began:
            return


# -- the rows


def _rows(store: LogStore, head: int, lag: int, troubles: list[str]) -> RowFacts:
    database, locks = store._database, _locks(store)
    apart = isinstance(store.backend, LocalFileBackend) and isinstance(database.path, Path)
    found: Mapping[str, Checkpoint] = {}
    sessions: dict[str, int] = {}
    elsewhere = 0
    leftovers: tuple[str, ...] = ()
    with _telling(troubles):
        found = store._projector.checkpoints()
        leftovers = _leftovers(store, found)
        with queries.reading(database) as connection:
            states = connection.execute("SELECT state, count(*) FROM sessions GROUP BY 1")
            sessions = {str(state): int(count) for state, count in states}
            running = queries.running(connection)
        asked = None if locks is None else Liveness(locks)
        elsewhere = sum(
            asked is None or not asked.can_tell(str(one.owner), one.host) for one in running
        )
    return RowFacts(
        bytes=_bytes_of(Path(database.path)) if apart else None,
        lag=lag,
        views=tuple(_views(store, head, found)),
        sessions=sessions,
        elsewhere=elsewhere,
        leftovers=leftovers,
        rebuilding=locks is not None and is_held(locks / "rebuild.lock"),
    )


def _views(store: LogStore, head: int, found: Mapping[str, Checkpoint]) -> Iterator[ViewFacts]:
    views = {view.name: view for view in store._projector.views}
    for name in sorted({*views, *found}):
        view, at = views.get(name), found.get(name)
        version = None if view is None else view.version
        if at is None:
            yield ViewFacts(name, version, None, 0, 0, head)
            continue
        newer = view is not None and at.ahead_of(view)
        lag = max(head - at.position, 0)
        yield ViewFacts(name, version, at.version, at.generation, at.position, lag, newer)


def _leftovers(store: LogStore, found: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """The tables of views of ours that no list shows."""
    shown = {
        table.name: found[view.name].generation if view.name in found else 0
        for view in store._projector.views
        for table in view.tables
    }
    names = store._database.query("SELECT name FROM sqlite_master WHERE type = 'table'")
    matches = [match for (name,) in names if (match := _GENERATION.fullmatch(str(name)))]
    return tuple(sorted(m[0] for m in matches if shown.get(m[1], int(m[2])) != int(m[2])))


# -- what they stand on


def _file(store: LogStore) -> Database:
    """The SQLite file; rows may be elsewhere, where a page of them is damaged."""
    return store.backend.database if isinstance(store.backend, SQLiteBackend) else store._database


def _database(database: Database, troubles: list[str], *, thorough: bool) -> DatabaseFacts | None:
    mode, checked = "", None
    if not isinstance(database.path, Path):
        return None
    with _telling(troubles):
        mode = _journal_mode(database)
        if thorough:
            lines = [str(row[0]) for row in database.query(f"PRAGMA quick_check({_TROUBLES})")]
            checked = tuple(line for line in lines if line != "ok")
    size = 0
    with suppress(OSError):
        size = os.stat(f"{database.path}-wal").st_size
    return DatabaseFacts(sqlite3.sqlite_version, mode, size, checked)


def _journal_mode(database: Database) -> str:
    if database.read_only and not os.path.exists(f"{database.path}-shm"):
        return ""  # a connection that takes the file for one that never changes does not know it
    return str(database.query("PRAGMA journal_mode")[0][0])


def _place(store: LogStore, troubles: list[str]) -> Place | None:
    path, locks = _path(store), _locks(store)
    if path is None or locks is None:
        return None
    with _telling(troubles):
        if path.is_dir():
            return place_of(path, [locks, *(segment.path for segment in segments_of(path)[-1:])])
        return place_of(path.parent, [locks, path])
    return None


def _stopped_backups(store: LogStore) -> tuple[str, ...]:
    path = _path(store)
    with suppress(OSError):
        return () if path is None else tuple(map(str, stopped_backups(path.parent)))
    return ()
