"""Finds the tables of a store in PostgreSQL that SQL can query, in the catalog of the database."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing

from lllm.cli.render.query_schema import Column, IndexInfo, TableInfo
from lllm.events.backend import ServerAddress
from lllm.store.server_query import ServerRows, count_rows

_BEHIND = re.compile(r"FROM (?:[\w.\"]+\.)?(\w+_v\d+);?\s*$", re.ASCII)
_HIDDEN = re.compile(r"\w+_v\d+(_search(_totals)?)?", re.ASCII)
_LOG = {
    "events": "The envelopes of all events, in their order. time is nanoseconds UTC.",
    "payloads": "The payload of each event: JSON, in the bytes in which it was written. "
    "convert_from(data, 'UTF8')::json makes JSON of it.",
    "checkpoints": "The position up to which the rows of each view follow the log.",
}
_FIRST = tuple(_LOG)

_TABLES = """SELECT relname, relkind, coalesce(obj_description(oid, 'pg_class'), ''),
        CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END
    FROM pg_class
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
        AND relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(oid, 'SELECT')
    ORDER BY relname"""
_COLUMNS = """SELECT relname, attname, format_type(atttypid, atttypmod)
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
        AND relkind IN ('r', 'p', 'v', 'm')
        AND attnum > 0 AND NOT attisdropped
    ORDER BY relname, attnum"""
_INDEXES = """SELECT relname, indisprimary, indisunique, indpred IS NOT NULL,
        ARRAY(SELECT pg_get_indexdef(indexrelid, place, true)
              FROM generate_series(1, indnkeyatts) AS place)
    FROM pg_class JOIN pg_index ON indrelid = pg_class.oid
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
    ORDER BY relname, indexrelid"""


def tables_of_server(server: ServerAddress, seconds: float) -> list[TableInfo]:
    """List the tables of a store in PostgreSQL that queries can use.

    Args:
        server: The database and the schema of the store.
        seconds: The time limit for counting all rows; 0 for no limit.

    Returns:
        The log's tables first, then the views for people, then the rows, and others.

    Raises:
        LogUnavailable: The server can't be reached.
    """
    columns: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for table, column, kind in _asked(server, _COLUMNS):
        columns[str(table)].append((str(column), str(kind)))
    indexes: defaultdict[str, list[tuple[bool, IndexInfo]]] = defaultdict(list)
    for table, is_key, unique, partial, names in _asked(server, _INDEXES):
        of = IndexInfo([str(name) for name in _listed(names)], bool(unique), bool(partial))
        indexes[str(table)].append((bool(is_key), of))
    until = time.monotonic() + seconds
    found = []
    for name, kind, about, definition in _asked(server, _TABLES):
        if _HIDDEN.fullmatch(str(name)):
            continue
        match = _BEHIND.search(str(definition or "")) if kind == "v" else None
        behind = match[1] if match else str(name)
        key = {column for is_key, one in indexes[behind] if is_key for column in one.columns}
        left = max(until - time.monotonic(), 0.001) if seconds else 0
        found.append(
            TableInfo(
                str(name), _LOG.get(str(name), str(about)), count_rows(server, f'"{name}"', left),
                [Column(column, type_, column in key) for column, type_ in columns[str(name)]],
                [one for is_key, one in indexes[behind] if not is_key],
            )
        )  # fmt: skip
    return sorted(found, key=_place)


def _place(table: TableInfo) -> tuple[int, str]:
    if table.name in _FIRST:
        return _FIRST.index(table.name), ""
    return (len(_FIRST) if table.name.startswith("readable_") else len(_FIRST) + 1), table.name


def _asked(server: ServerAddress, sql: str) -> Iterable[tuple[object, ...]]:
    with closing(ServerRows(server, sql, seconds=0)) as rows:
        yield from rows


def _listed(names: object) -> Iterable[object]:
    import json

    found: Iterable[object] = json.loads(str(names))
    return found
