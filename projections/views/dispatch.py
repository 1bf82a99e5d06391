"""Helps lllm's views: passes each event to its handler, and gives numbers to keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import msgspec

from lllm.projections.view import Rows, ViewEvent

# Functions that get a session, a payload of their type, and the event as views get it.
Handlers = Mapping[type, Callable[..., None]]


def hand_out(batch: Sequence[ViewEvent], handlers: Handlers) -> None:
    """Pass each event to the handler of its type.

    Args:
        batch: The events in order; events without a session, or of other types, are skipped.
        handlers: The handlers, by the type of the payload.
    """
    for one in batch:
        if one.session is not None:
            handle = handlers.get(type(one.payload))
            if handle is not None:
                handle(one.session, one.payload, one)


def number_of(rows: Rows, table: str, key: tuple[str, ...], column: str) -> tuple[int, bool]:
    """Find the number of a key, and store it if it is new.

    The number is a hash of the key, so it does not depend on what was written or erased before.

    Args:
        rows: The rows of the view's tables.
        table: The table of keys and numbers.
        key: The values of the key columns.
        column: The name of the column with the numbers.

    Returns:
        The number, and True if it is new.
    """
    row = rows.get(table, key)
    if row is not None:
        return int(row[column] or 0), False
    number = hashed(key)
    rows.put(table, key, **{column: number})
    return number, True


def hashed(key: tuple[str, ...]) -> int:
    """Hash a key to a number of 63 bits.

    The probability that two of a million keys get the same number is about 1 in 10^7.

    Args:
        key: The texts of the key, without lone surrogates.

    Returns:
        The number.
    """
    return int.from_bytes(sha256(msgspec.json.encode(key)).digest()[:8]) >> 1
