"""Helps lllm's views: passes each event to its handler, and gives numbers to keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import msgspec

from lllm.projections.view import Rows, ViewEvent

# Take a session, a payload of the type, and the event as views get it.
Handlers = Mapping[type, Callable[..., None]]


def hand_out(batch: Sequence[ViewEvent], handlers: Handlers) -> None:
    """Pass each event about a session to the handler of its type.

    Args:
        batch: Events in order; those about no session, and of other types, are passed over.
        handlers: By the type of the payload.
    """
    for one in batch:
        if one.session is not None:
            handle = handlers.get(type(one.payload))
            if handle is not None:
                handle(one.session, one.payload, one)


def number_of(rows: Rows, table: str, key: tuple[str, ...], column: str) -> tuple[int, bool]:
    """Look up the number of a key, and store it if it is new.

    The number is a hash of the key, so it is the same whatever was written before, and whatever of
    that was erased since.

    Args:
        rows: The rows.
        table: Where keys and numbers stand.
        key: The key.
        column: The column of the numbers.

    Returns:
        The number, and whether it is new.
    """
    row = rows.get(table, key)
    if row is not None:
        return int(row[column] or 0), False
    number = hashed(key)
    rows.put(table, key, **{column: number})
    return number, True


def hashed(key: tuple[str, ...]) -> int:
    """Hash a key to a number of 63 bits, of which a million differ but for one chance in 10^7.

    Args:
        key: Texts that UTF-8 can hold.
    """
    return int.from_bytes(sha256(msgspec.json.encode(key)).digest()[:8]) >> 1
