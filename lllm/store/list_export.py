"""Exports a store's lists as plain tables in the user's own SQLite database.

    sessions  every session of a tactic and every captured session, at any depth
    tags      the tags of each session, also those inherited from its root
    calls     every attempt to call a model
    costs     the cost of each top-level session with its descendants, by day, tactic, model
              and agent

Several stores may be exported to one database, because session ids are unique. Times are ISO 8601
in UTC, durations are seconds, and costs are US dollars; `cost_nanos` is exact (10^-9 dollars).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import sqlite_utils

from lllm.events.backends.sqlite.file_header import APPLICATION_ID, refuse_parts
from lllm.events.errors import LogError, StoreError
from lllm.events.files.own_files import make_database
from lllm.projections.database import RowsDatabase
from lllm.projections.days import QUARTER_HOUR, day_of, day_text
from lllm.projections.queries import calls as call_queries
from lllm.projections.queries import costs as cost_queries
from lllm.projections.queries import session_tags
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.sessions import SessionRow
from lllm.projections.session.invoke_cost import dollars
from lllm.projections.views.costs import SUMS
from lllm.store.call_records import CallRecord, record_of
from lllm.store.read_model import ReadModel
from lllm.store.summaries import summary_of
from lllm.times import datetime_of

_PAGE = 500  # sessions that are read together
_WAIT_SECONDS = 30.0  # for another program that writes the same database

_Record = dict[str, str | int | float | None]
_SESSIONS: dict[str, type] = {
    "session_id": str, "tactic_name": str, "tactic_path": str, "kind": str, "partition": str,
    "state": str, "task": str, "started": str, "ended": str, "elapsed": float, "parent_id": str,
    "root_id": str, "total_cost": float, "wasted_cost": float, "cost_nanos": int, "calls": int,
    "failed_calls": int, "unpriced_calls": int, "agent_call_count": int, "prompt_tokens": int,
    "completion_tokens": int, "error": str,
}  # fmt: skip
_TAGS: dict[str, type] = {"session_id": str, "name": str, "value": str}
_CALL_FLOATS = ("elapsed", "first_token", "cost")
_CALL_TEXTS = (
    "session_id", "tactic_path", "agent", "provider", "host", "asked", "model", "state", "error",
    "error_type", "error_code", "timestamp", "price", "price_reason",
)  # fmt: skip
_CALLS: dict[str, type] = {
    name: int for name in CallRecord.__struct_fields__ if name not in ("tags", "cursor")
}
_CALLS.update(dict.fromkeys(_CALL_TEXTS, str), **dict.fromkeys(_CALL_FLOATS, float), cost_nanos=int)
_COSTS: dict[str, type] = {
    **dict.fromkeys(("session_id", "day", "tactic_path", "model", "agent"), str),
    "cost": float,
    **dict.fromkeys(SUMS, int),
}
_TABLES: dict[str, tuple[dict[str, type], tuple[str, ...]]] = {
    "sessions": (_SESSIONS, ("session_id",)),
    "tags": (_TAGS, ("session_id", "name")),
    "calls": (_CALLS, ("session_id", "request")),
    "costs": (_COSTS, ("session_id", "day", "tactic_path", "model", "agent")),
}


class ExportedLists(msgspec.Struct, frozen=True):
    """The number of rows of each kind that an export wrote, replaced rows included.

    Attributes:
        path: The path of the database.
        sessions: The number of rows in `sessions`.
        tags: The number of rows in `tags`.
        calls: The number of rows in `calls`.
        costs: The number of rows in `costs`.
    """

    path: Path
    sessions: int
    tags: int
    calls: int
    costs: int


def export_lists(place: ReadModel, path: Path) -> ExportedLists:
    """Write all lists to a database; see `LogStore.export_lists`.

    Args:
        place: The rows, which must be up to date.
        path: The path of the database to write.

    Returns:
        The numbers of rows that were written.

    Raises:
        StoreError: It can't be written; nothing is changed then.
    """
    _refuse_stores(path)
    made = not path.exists()
    counts = dict.fromkeys(_TABLES, 0)
    try:
        make_database(path)  # readable by its owner only, like all files of a store
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            target = sqlite_utils.Database(
                connection, recursive_triggers=False, execute_plugins=False
            )
            _make_tables(target, path)
            after = 0
            while page := place.ask(partial(_page, after=after)):
                after = page.last
                for name, records in page.records.items():
                    _replace(target, name, page.ids, records)
                    counts[name] += len(records)
            connection.execute("COMMIT")
    except BaseException as error:
        if made:
            path.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error | OSError) and not isinstance(error, LogError):
            raise StoreError(f"{path}: {error}. Nothing was exported.") from error
        raise
    return ExportedLists(path, **counts)


class _Page(msgspec.Struct, frozen=True):
    """The rows to export for some sessions. last: the greatest of their numbers."""

    last: int
    ids: list[str]
    records: dict[str, list[_Record]]


def _page(rows: RowsDatabase, after: int) -> _Page | None:
    """Read the next sessions after a number; None if there are no more."""
    with session_queries.reading(rows) as connection:
        sessions = session_queries.sessions_after(connection, after, _PAGE)
        if not sessions:
            return None
        last = sessions[-1].number
        sessions = [one for one in sessions if one.replays is None]
        numbers = [one.number for one in sessions]
        tags = session_tags.tags_of(connection, sessions)
        above = {number for one in sessions for number in (one.parent, one.root) if number}
        ids = session_queries.ids_of(connection, above | {*numbers})
        roots = [one.number for one in sessions if one.parent is None]
        return _Page(
            last,
            [one.id for one in sessions],
            {
                "sessions": [_session(one, ids) for one in sessions],
                "tags": [
                    {"session_id": one.id, "name": name, "value": value}
                    for one in sessions
                    for name, value in tags[one.number].items()
                ],
                "calls": [_call(found) for found in call_queries.calls_of(connection, numbers)],
                "costs": _costs(cost_queries.costs_of(connection, roots), ids),
            },
        )


def _session(row: SessionRow, ids: dict[int, str]) -> _Record:
    summary = summary_of(row, {}, "started")
    return {
        **{name: getattr(summary, name) for name in _SESSIONS if hasattr(summary, name)},
        "kind": row.kind,
        "started": _time(row.started),
        "ended": None if row.ended is None else _time(row.ended),
        "parent_id": None if row.parent is None else ids.get(row.parent),
        "root_id": ids.get(row.root),
        "cost_nanos": row.cost_nanos or 0,
    }


def _call(found: call_queries.FoundCall) -> _Record:
    record = record_of(found, "started")
    return {
        **{name: getattr(record, name) for name in _CALLS if hasattr(record, name)},
        "timestamp": _time(found.row.started),
        "wasted": found.row.wasted,
        "cost_nanos": found.row.cost_nanos,
    }


def _costs(cells: Sequence[cost_queries.SessionCost], ids: dict[int, str]) -> list[_Record]:
    sums: defaultdict[tuple[str, ...], list[tuple[int, ...]]] = defaultdict(list)
    for cell in cells:
        day = day_text(day_of(cell.quarter_hour * QUARTER_HOUR))
        sums[ids[cell.session], day, cell.tactic, cell.model, cell.agent].append(cell.sums)
    found: list[_Record] = []
    for key, parts in sums.items():
        whole = dict(zip(SUMS, map(sum, zip(*parts, strict=True)), strict=True))
        names = dict(zip(_TABLES["costs"][1], key, strict=True))
        found.append({**names, "cost": dollars(whole["cost_nanos"]), **whole})
    return found


def _time(nanoseconds: int) -> str:
    return datetime_of(nanoseconds).isoformat()


# -- the database that they go to


def _refuse_stores(path: Path) -> None:
    """Raise StoreError if a file exists that is not a database, or is a store.

    SQLite is used to find out, without changing the file; see `file_header.refuse_others`.
    """
    for folder in path.parents[:2]:
        if folder.name.endswith("-lllm") or (folder / "log.json").exists():
            raise StoreError(f"{path} is inside a store of lllm; name another place for the lists.")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file for the lists, as lists.db.")
    refuse_parts(path)
    if not path.exists() or path.stat().st_size == 0:
        return
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}. Name a new file for the lists.") from error
    if owner == APPLICATION_ID:
        raise StoreError(f"{path} is a store of lllm; name another file for the lists.")


def _make_tables(target: sqlite_utils.Database, path: Path) -> None:
    """Create missing tables. Raises StoreError if something else has a table's name."""
    for name, (columns, key) in _TABLES.items():
        table = target.table(name)
        if name in target.view_names() or (table.exists() and tuple(table.pks) != key):
            raise StoreError(
                f"{path} has another table {name!r} already; name another file for the lists."
            )
        if not table.exists():
            linked = [] if name == "sessions" else [("session_id", "sessions", "session_id")]
            table.create(columns, pk=key if len(key) > 1 else key[0], foreign_keys=linked)
    target.table("sessions").create_index(["started"], if_not_exists=True)
    target.table("calls").create_index(["timestamp"], if_not_exists=True)


def _replace(
    target: sqlite_utils.Database, name: str, ids: Sequence[str], records: Sequence[_Record]
) -> None:
    """Replace the rows of some sessions."""
    table, (_, key) = target.table(name), _TABLES[name]
    if name in ("tags", "costs"):
        table.delete_where(f"session_id IN ({', '.join('?' * len(ids))})", list(ids))
    table.upsert_all(records, pk=key if len(key) > 1 else key[0], alter=True)
