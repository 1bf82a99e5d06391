"""Examines a store: gathers the facts about it and has them judged.

Like every command, it first brings the rows up to date and finds the sessions of dead processes. An
error on the way is noted, and the examination continues with the other parts.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from lllm.doctor.advice import diagnosed
from lllm.doctor.age import age_of
from lllm.doctor.facts import AgeFacts, Checkup, DatabaseFacts, Gap, LogFacts, RowFacts, ViewFacts
from lllm.doctor.file_systems import StoreLocation, location_of
from lllm.events import codec
from lllm.events.backend import KeepsRows, KnowsItsEnd, ReportsHealth, read_types
from lllm.events.concurrency.liveness import Liveness
from lllm.events.concurrency.locks import is_held
from lllm.events.envelope import Recorded
from lllm.events.errors import LllmError, LogDamaged
from lllm.events.health import Health
from lllm.events.integrity.backup import stopped_backups
from lllm.events.model import LogGap, SessionErased
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.checkpoints import Checkpoint
from lllm.projections.engine.row_tables import row_tables
from lllm.projections.queries import running_sessions
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.erasures import erasure_state
from lllm.store.log_store import LogStore, session_host
from lllm.store.read_model import ReadModel
from lllm.time_zones import zone_of

# the size up to which a log is searched without `thorough`; it takes a second or two
_READ_BYTES = 256 << 20
_TROUBLES = 10  # errors that are reported at most
_GENERATION = re.compile(r"(.+)_v(\d+)")  # the name of a table of rows


def examine(store: LogStore, *, thorough: bool = False, tz: str | dt.tzinfo = dt.UTC) -> Checkup:
    """Examine a store and judge its health.

    Args:
        store: The store; its rows are brought up to date.
        thorough: True to read the whole log, whatever its size, and to have SQLite check the pages
            of its file.
        tz: The time zone of the times in the remarks; see `lllm.time_zones.zone_of`.

    Returns:
        The facts about the store, and remarks on them, the worst first.

    Raises:
        LogError: Nothing of the store can be read.
        ValueError: There is no such time zone.
    """
    troubles: list[str] = []
    lag = 0
    rows = session_host(store).rows
    head = store.log.head()  # events that others write from now on don't count as lag
    with _noting_errors(troubles):
        lag = store.lag
        # brings the rows up to date, and finds the sessions of dead processes
        store.list_sessions(limit=0)
    with _noting_errors(troubles):
        if isinstance(store.backend, KnowsItsEnd):
            store.backend.check_end()
    health = _health(store, head, thorough=thorough)
    found = Checkup(
        log=_log(store, health, head, troubles, thorough=thorough),
        rows=_rows(store, rows, health, head, lag, troubles),
        database=_database(_rows_file(store, rows), troubles, thorough=thorough),
        place=_place(health, troubles),
        stopped_backups=_stopped_backups(health.path),
        troubles=tuple(troubles[:_TROUBLES]),
    )
    return diagnosed(found, zone_of(tz))


@contextmanager
def _noting_errors(troubles: list[str]) -> Iterator[None]:
    """A `with` that notes errors, so that the examination continues."""
    try:
        yield
    except (LllmError, OSError, sqlite3.Error) as error:
        if str(error) not in troubles:
            troubles.append(str(error))


# -- the log


def _health(store: LogStore, head: int, *, thorough: bool) -> Health:
    backend = store.backend
    if isinstance(backend, ReportsHealth):
        return backend.health(head, read_bytes=None if thorough else _READ_BYTES)
    return Health(kind=type(backend).__name__)


def _log(
    store: LogStore, health: Health, head: int, troubles: list[str], *, thorough: bool
) -> LogFacts:
    through = thorough or (health.bytes or 0) <= _READ_BYTES
    gaps, erased = _search(store, head, troubles) if through else (None, None)
    return LogFacts(
        **msgspec.structs.asdict(health),
        read_only=store.read_only,
        head=head,
        gaps=gaps,
        erased=erased,
        held=len(store.log.held),
    )


def _search(store: LogStore, head: int, troubles: list[str]) -> tuple[tuple[Gap, ...], int]:
    """Find the gaps of a log, and count the erased sessions."""
    gaps, erased = [], 0
    for event in _readable(store, head, troubles):
        payload = codec.decode(event)
        erased += isinstance(payload, SessionErased)
        if isinstance(payload, LogGap):
            times = payload.first_time, payload.last_time
            gaps.append(Gap(event.position, payload.lost, *times, payload.reason))
    return tuple(gaps), erased


def _readable(store: LogStore, head: int, troubles: list[str]) -> Iterator[Recorded]:
    """Yield the events that `_search` needs and that can be read."""
    after = 0
    while after < head and len(troubles) < _TROUBLES:
        began = after
        with _noting_errors(troubles):
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


def _rows(
    store: LogStore, rows: ReadModel, health: Health, head: int, lag: int, troubles: list[str]
) -> RowFacts:
    database, backend, locks = rows.database, store.backend, health.locks
    in_log = isinstance(backend, KeepsRows) and backend.rows_in_log
    apart = isinstance(database.path, Path) and not in_log
    found: Mapping[str, Checkpoint] = {}
    sessions: dict[str, int] = {}
    elsewhere = 0
    leftovers: tuple[str, ...] = ()
    age, unvacuumed = AgeFacts(), False
    with _noting_errors(troubles):
        found = rows.projector.checkpoints()
        leftovers = _leftovers(rows, found)
        with session_queries.reading(database) as connection:
            states = connection.execute("SELECT state, count(*) FROM sessions GROUP BY 1")
            sessions = {str(state): int(count) for state, count in states}
            running = running_sessions.running(connection)
            age = age_of(connection, head, health.bytes)
        unvacuumed = erasure_state(database).unvacuumed
        asked = None if locks is None else Liveness(locks)
        elsewhere = sum(
            asked is None or not asked.can_tell(str(one.owner), one.host) for one in running
        )
    return RowFacts(
        bytes=os.stat(database.path).st_size if apart else None,
        lag=lag,
        views=tuple(_views(rows, head, found)),
        sessions=sessions,
        elsewhere=elsewhere,
        leftovers=leftovers,
        rebuilding=locks is not None and is_held(locks / "rebuild.lock"),
        age=age,
        unvacuumed=unvacuumed,
    )


def _views(rows: ReadModel, head: int, found: Mapping[str, Checkpoint]) -> Iterator[ViewFacts]:
    views = {view.name: view for view in rows.projector.present(found)}
    for name in sorted({*views, *found}):
        view, at = views.get(name), found.get(name)
        version = None if view is None else view.version
        if at is None:
            yield ViewFacts(name, version, None, 0, 0, head)
            continue
        newer = view is not None and at.ahead_of(view)
        lag = max(head - at.position, 0)
        yield ViewFacts(name, version, at.version, at.generation, at.position, lag, newer)


def _leftovers(rows: ReadModel, found: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """Find tables that a stopped rebuild left behind."""
    shown = {
        table.name: found[view.name].generation if view.name in found else 0
        for view in rows.projector.views
        for table in view.tables
    }
    names = row_tables(rows.database).table_names(rows.database)
    matches = [match for name in names if (match := _GENERATION.fullmatch(name))]
    return tuple(sorted(m[0] for m in matches if shown.get(m[1], int(m[2])) != int(m[2])))


# -- the files


def _rows_file(store: LogStore, rows: ReadModel) -> RowsDatabase:
    """Get the file in which rows belong, even if a damaged page has moved them into memory."""
    backend = store.backend
    return backend.rows_database() if isinstance(backend, KeepsRows) else rows.database


def _database(
    database: RowsDatabase, troubles: list[str], *, thorough: bool
) -> DatabaseFacts | None:
    mode, checked = "", None
    if not isinstance(database.path, Path):
        return None
    with _noting_errors(troubles):
        mode = _journal_mode(database)
        if thorough:
            lines = [str(row[0]) for row in database.query(f"PRAGMA quick_check({_TROUBLES})")]
            checked = tuple(line for line in lines if line != "ok")
    size = 0
    with suppress(OSError):
        size = os.stat(f"{database.path}-wal").st_size
    return DatabaseFacts(sqlite3.sqlite_version, mode, size, checked)


def _journal_mode(database: RowsDatabase) -> str:
    if database.read_only and not os.path.exists(f"{database.path}-shm"):
        return ""  # a connection that treats the file as immutable can't tell the mode
    return str(database.query("PRAGMA journal_mode")[0][0])


def _place(health: Health, troubles: list[str]) -> StoreLocation | None:
    path, locks = health.path, health.locks
    if path is None or locks is None:
        return None
    with _noting_errors(troubles):
        return location_of(path if path.is_dir() else path.parent, [locks, *health.files])
    return None


def _stopped_backups(path: Path | None) -> tuple[str, ...]:
    with suppress(OSError):
        return () if path is None else tuple(map(str, stopped_backups(path.parent)))
    return ()
