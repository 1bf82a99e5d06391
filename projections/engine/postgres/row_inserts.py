"""Writes the INSERTs of many rows as single statements, whose rows are one parameter in JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from lllm.projections.database import JSONText, Row, Statement, Value

# The table, the columns, and what is done with rows that are there.
INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \([?, ]+\)(.*)")


def single_statements(statements: Iterable[Statement]) -> Iterator[tuple[str, Row]]:
    """Make one execution of each INSERT, and one for each row of other statements.

    Args:
        statements: The statements, each with the rows of its parameters.

    Yields:
        The statements, each with its parameters.
    """
    for sql, rows in statements:
        insert = INSERT.fullmatch(sql) if len(rows) > 1 else None
        if insert is not None:
            yield _insert_of_json(sql), (_as_json(insert[2], rows),)
        else:
            for row in rows:
                yield sql, row


@lru_cache(maxsize=1_000)
def _insert_of_json(sql: str) -> str:
    """Write an INSERT of one row as one of any number of rows, whose parameter is JSON.

    So it is one statement, planned once, which needs no types of columns: those of the table count.
    """
    insert = INSERT.fullmatch(sql)
    assert insert is not None
    table, columns, action = insert.groups()
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns}"
        f" FROM json_populate_recordset(NULL::{table}, ?){action}"
    )


def _as_json(columns: str, rows: Sequence[Row]) -> str:
    names = columns.split(", ")
    objects = [dict(zip(names, map(_json_value, row), strict=True)) for row in rows]
    return msgspec.json.encode(objects).decode()


def _json_value(value: Value) -> Value | msgspec.Raw:
    """The JSON from which PostgreSQL makes the value of a column, whatever type that has."""
    if type(value) is JSONText:
        return msgspec.Raw(value.encode())
    if type(value) is str:
        return value.replace("\0", "\\x00")
    if type(value) is bytes:
        return f"\\x{value.hex()}"
    if type(value) is bool:
        return int(value)
    if type(value) is float and not math.isfinite(value):
        return str(value)
    return value
