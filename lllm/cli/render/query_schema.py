"""Prints the tables that SQL queries can use, with their columns, indexes and purpose."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import closing
from typing import cast

import msgspec
from rich.text import Text

from lllm.cli.render.console import joined, show, stdout
from lllm.cli.render.json_text import array, show_json
from lllm.events.codec import encode
from lllm.events.errors import LogDamaged, StoreError
from lllm.store.query_timeout import TimedRows
from lllm.store.sql_database import StoreDatabase
from lllm.terminal_safe import visible

_INDEX = re.compile(r"_v\d+_search(_\w+)?$", re.ASCII)
_BEHIND = re.compile(r"SELECT \* FROM (?:\w+\.)?(\w+_v\d+)$")


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        name: The name of the column.
        type: Its type in the database; "" if it has none.
        key: True if it is part of the primary key.
    """

    name: str
    type: str
    key: bool


class IndexInfo(msgspec.Struct, frozen=True):
    """An index of a table.

    Attributes:
        columns: The names of the indexed columns.
        unique: True if no two rows may have the same values.
        partial: True if the index leaves out some rows.
    """

    columns: Sequence[str]
    unique: bool
    partial: bool


class TableInfo(msgspec.Struct, frozen=True):
    """A table or view that queries can use.

    Attributes:
        name: The name of the table or the SQL view.
        about: A sentence on its purpose; "" for a table that lllm did not make.
        rows: The number of rows; None if counting took too long, or a page of the table can't be
            read.
        columns: The columns of the table.
        indexes: The indexes of the table.
    """

    name: str
    about: str
    rows: int | None
    columns: Sequence[Column]
    indexes: Sequence[IndexInfo]


def show_schema(found: Sequence[TableInfo], *, as_json: bool, as_nl: bool) -> None:
    """Print the tables of a store.

    Args:
        found: The tables, from `tables_of` or `tables_of_server`.
        as_json: True to print one JSON array.
        as_nl: True to print a JSON object on each line.
    """
    if as_json:
        show_json(array(found))
        return
    if as_nl:
        show_json("\n".join(encode(table).decode() for table in found))
        return
    console = stdout()
    for number, table in enumerate(found):
        rows = "rows not counted" if table.rows is None else f"{table.rows:,} rows"
        heading = joined((Text(visible(table.name), "bold"), rows))
        lines = [Text(""), heading] if number else [heading]
        if table.about:
            lines.append(Text(f"  {table.about}"))
        columns = (
            f"{column.name} {column.type}{' KEY' if column.key else ''}".replace("  ", " ")
            for column in table.columns
        )
        lines.append(Text(visible(f"  columns  {', '.join(columns)}")))
        for index in table.indexes:
            more = (
                f"{', unique' if index.unique else ''}{', of some rows' if index.partial else ''}"
            )
            lines.append(Text(visible(f"  index    ({', '.join(index.columns)}){more}")))
        show(console, *lines)


def tables_of(database: StoreDatabase, seconds: float) -> list[TableInfo]:
    """List the tables that queries can use.

    Args:
        database: The database to describe.
        seconds: The time limit for counting all rows; 0 for no limit.

    Returns:
        The log's tables first, then the tables of each view, then those that lllm did not make.
    """
    about = database.about
    sql = "SELECT name, type, sql FROM sqlite_temp_master UNION ALL SELECT name, type, sql FROM "
    shown: dict[str, str] = {}  # by its name: the table that it shows
    behind: set[str] = set()
    for name, kind, text in database.execute(f"{sql} sqlite_master").fetchall():
        if kind == "view" and (match := _BEHIND.search(str(text))):
            shown.setdefault(name, match[1])
            behind.add(match[1])
        elif _INDEX.search(name):
            behind.add(name)  # read by `lllm search` alone: its words are no rows
        elif kind in ("table", "view") and not name.startswith("sqlite_"):
            shown.setdefault(name, name)
    order = {name: at for at, name in enumerate(about)}
    names = sorted(
        (name for name in shown if name not in behind),
        key=lambda name: (order.get(name, len(order)), name),
    )
    until = time.monotonic() + seconds
    tables = []
    for name in names:
        left = max(until - time.monotonic(), 0.001) if seconds else 0
        tables.append(_table_info(database, name, shown[name], about.get(name, ""), left))
    return tables


def _table_info(
    database: StoreDatabase, name: str, behind: str, about: str, seconds: float
) -> TableInfo:
    try:
        sql = f"SELECT count(*) FROM {_quoted(name)}"
        with closing(TimedRows(database, sql, seconds=seconds)) as counted:
            rows = cast(int, next(counted)[0])
    except (StoreError, LogDamaged):
        rows = None
    columns = database.execute(f"PRAGMA table_info({_quoted(name)})").fetchall()
    keys = database.execute(f"PRAGMA table_info({_quoted(behind)})").fetchall()
    key = {column[1] for column in keys if column[5]}
    indexes = database.execute(f"PRAGMA index_list({_quoted(behind)})").fetchall()
    return TableInfo(
        name, about, rows,
        [Column(column[1], column[2], column[1] in key) for column in columns],
        [
            IndexInfo(_columns_of(database, index[1]), bool(index[2]), bool(index[4]))
            for index in indexes
            if index[3] != "pk"
        ],
    )  # fmt: skip


def _columns_of(database: StoreDatabase, index: str) -> list[str]:
    found = database.execute(f"PRAGMA index_info({_quoted(index)})").fetchall()
    return [str(column[2]) for column in found]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
