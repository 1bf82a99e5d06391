"""Reads rows by key, and checks that their values have the expected types."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import TypeVar

import msgspec

from lllm.events.backends.sqlite.database import Row
from lllm.events.errors import ViewError

T = TypeVar("T")
_AT_ONCE = 500  # keys; SQLite bounds the parameters of a statement


def convert_rows(rows: object, kind: type[T], table: str) -> T:
    """Check that the values of rows have the expected types, which SQLite does not enforce.

    Args:
        rows: What was read.
        kind: The type that it should have.
        table: The table to name in an error.

    Returns:
        The same rows as that type.

    Raises:
        ViewError: Somebody else wrote one of them.
    """
    try:
        return msgspec.convert(rows, kind)
    except msgspec.ValidationError as error:
        raise ViewError(
            f"A row of the table {table} is not as lllm writes it ({error}); `lllm rebuild`, or "
            "LogStore.rebuild(), makes it anew."
        ) from error


def rows_by_key(connection: sqlite3.Connection, select: str, keys: Collection[int]) -> list[Row]:
    """Read the rows whose integer key is in `keys`.

    Args:
        connection: Reads the rows.
        select: A SELECT up to the name of the key's column, which stands last.
        keys: However many; they are asked for in several statements.

    Returns:
        The rows found, by chunks of ascending keys.
    """
    found: list[Row] = []
    wanted = sorted(keys)
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        found += connection.execute(f"{select} IN ({', '.join('?' * len(some))})", some)
    return found
