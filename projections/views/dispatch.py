"""Helps lllm's views: passes each event to its handler, and gives numbers to keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lllm.projections.view import Key, Rows, ViewEvent

# Take a session, a payload of the type, and the event itself.
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
                handle(one.session, one.payload, one.event)


def number_of(rows: Rows, table: str, key: Key, column: str, counter: str) -> tuple[int, bool]:
    """Look up the number of a key; a new key gets the next number.

    So numbers follow the events, wherever a batch ends.

    Args:
        rows: The rows.
        table: Where keys and numbers stand.
        key: The key.
        column: The column of the numbers.
        counter: A table of one row, with the key 0, that keeps the `last` number given.

    Returns:
        The number, and whether it is new.
    """
    row = rows.get(table, key)
    if row is not None:
        return int(row[column] or 0), False
    last = rows.get(counter, (0,))
    number = (int(last["last"] or 0) if last else 0) + 1
    rows.put(counter, (0,), last=number)
    rows.put(table, key, **{column: number})
    return number, True
