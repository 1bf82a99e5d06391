"""Reads rows by key, and checks that their values have the expected types."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from lllm.events.errors import ViewError
from lllm.projections.database import Row, RowsConnection

T = TypeVar("T")
_AT_ONCE = 500  # keys in one statement, whose number of parameters SQLite limits


def convert_rows(rows: object, kind: type[T], table: str) -> T:
    """Check that the values of rows have the expected types, which SQLite does not enforce.

    Args:
        rows: The rows that were read.
        kind: The type that they should have.
        table: The name of the table, for the text of the error.

    Returns:
        The same rows as values of that type.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    try:
        return msgspec.convert(rows, kind)
    except msgspec.ValidationError as error:
        raise ViewError(
            f"A row of the table {table} is not as lllm writes it ({error}). Rebuild it with "
            "`lllm rebuild` or LogStore.rebuild()."
        ) from error


def rows_by_key(connection: RowsConnection, select: str, keys: Collection[int]) -> list[Row]:
    """Read the rows whose integer key is in `keys`.

    Args:
        connection: A connection to the database of the rows.
        select: A SELECT statement up to and including the name of the key's column.
        keys: Any number of keys; they are looked up in several statements.

    Returns:
        The rows that exist, in any order.
    """
    found: list[Row] = []
    wanted = sorted(keys)
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        found += connection.execute(f"{select} IN ({', '.join('?' * len(some))})", some)
    return found
