"""Stores up to which position each view's rows are built, and checks if they can be continued.

A checkpoint is written in the same transaction as the rows that it describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated

import msgspec

from lllm.events import codec
from lllm.events.backends.sqlite.unreadable_positions import is_unreadable_page
from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.errors import LogError
from lllm.events.model import EVENTS
from lllm.projections.database import Row, RowsConnection, RowsDatabase
from lllm.projections.dialect import dialect_of
from lllm.projections.engine.row_tables import row_tables
from lllm.projections.view import View

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


@warm_msgspec
class Checkpoint(msgspec.Struct, frozen=True):
    """The position up to which a view's rows are built, and the version that built them.

    If `version` or `known` differ from their present values, the rows are rebuilt.

    Attributes:
        version: The version of the view.
        generation: The number of the tables that contain the rows.
        position: The last position of the log that the rows include.
        known: The event types and versions that the library could read, in the form of
            `known_events`.
    """

    version: _Count
    generation: _Count
    position: _Count
    known: str

    def ahead_of(self, view: View) -> bool:
        """True if a newer version of lllm built the rows.

        Args:
            view: The view, as this version of lllm has it.

        Returns:
            True if they were built by a newer version of the view, or from events that this version
            of lllm can't read.
        """
        if self.version > view.version:
            return True
        try:
            pairs = msgspec.json.decode(self.known or "[]", type=list[tuple[str, int]])
        except (ValueError, RecursionError):
            # a value that lllm never writes differs from the present one, so the rows are rebuilt
            return False
        return any(v > (EVENTS[name].version if name in EVENTS else 0) for name, v in pairs)


def known_events(view: View) -> str:
    """List the event types and versions that a view's rows are built from.

    Args:
        view: The view whose rows are built.

    Returns:
        JSON, in the form that a checkpoint stores.
    """
    return _known(frozenset(view.types))


@cache
def _known(types: frozenset[str]) -> str:
    pairs = sorted((name, EVENTS[name].version if name in EVENTS else 0) for name in types)
    return codec.encode(pairs).decode()


def is_stale(view: View, found: Checkpoint | None) -> bool:
    """True if a view's rows have to be rebuilt.

    Args:
        view: The view, as this version of lllm has it.
        found: The stored checkpoint of the view; None if there is none.

    Returns:
        True if there are no rows, or if an older version built them.
    """
    if found is None or found.version < view.version:
        return True
    return not found.ahead_of(view) and found.known != known_events(view)


def has_table(database: RowsDatabase, name: str) -> bool:
    """True if a database has a table of this name.

    Args:
        database: The database of the rows.
        name: The name of the table.

    Returns:
        False if there is none.
    """
    with database.snapshot() as connection:
        return bool(connection.execute(dialect_of(connection).has_table(), (name,)).fetchone())


def has_checkpoints(database: RowsDatabase) -> bool:
    """True if a database has ever stored rows of views.

    Args:
        database: The database of the rows.

    Returns:
        False if it has no table of checkpoints.
    """
    return has_table(database, "checkpoints")


def can_go_on(database: RowsDatabase, views: Sequence[View]) -> bool:
    """True if a database has rows of all these views and none have to be rebuilt.

    Args:
        database: The database of the rows.
        views: The views to check.

    Returns:
        False if the rows of one have to be built first.
    """
    if not has_checkpoints(database):
        return False
    found = read_checkpoints(database)
    return not any(is_stale(view, found.get(view.name)) for view in views)


def read_checkpoints(database: RowsDatabase) -> dict[str, Checkpoint]:
    """Read the stored checkpoints.

    Args:
        database: The database of the rows.

    Returns:
        The checkpoints, by the names of their views.

    Raises:
        LogError: The table of checkpoints can't be read.
    """
    rows = database.query("SELECT view, version, generation, position, known FROM checkpoints")
    found: dict[str, Checkpoint] = {}
    for view, *rest in rows:
        # if an entry is invalid, the rows of its view are rebuilt
        with suppress(msgspec.ValidationError):
            found[str(view)] = msgspec.convert(
                dict(zip(Checkpoint.__struct_fields__, rest, strict=True)), Checkpoint
            )
    return found


def replace_damaged(database: RowsDatabase) -> None:
    """Replace the table of checkpoints by an empty one if a page of it is damaged.

    Then all views are rebuilt.

    Args:
        database: The database of the rows.

    Raises:
        LogError: The table can't be read for another reason, or can't be replaced.
    """
    try:
        read_checkpoints(database)
        return
    except LogError as error:
        if not is_unreadable_page(error):
            raise
    row_tables(database).move_checkpoints_aside(database)


def advance(generations: Mapping[View, int], position: int) -> tuple[str, list[Row]]:
    """Make the statement that stores the position up to which views are built.

    It belongs into the transaction of their rows.

    Args:
        generations: The views, and the generation of their rows.
        position: The last position of the log that the rows include.

    Returns:
        The SQL, and the parameters of each execution.
    """
    marks = ", ".join(["(?, ?)"] * len(generations))
    return (
        "UPDATE checkpoints SET position = ? WHERE position < ? AND (view, generation) IN"
        f" (VALUES {marks})",
        [
            (
                position,
                position,
                *(part for view, number in generations.items() for part in (view.name, number)),
            )
        ],
    )


def store_checkpoint(
    connection: RowsConnection, view: View, generation: int, position: int
) -> None:
    """Store that a generation of rows is now the one of a view.

    Args:
        connection: A connection with an open transaction, in which the rows are shown.
        view: The view, whose version and event types are stored, too.
        generation: The generation of its rows.
        position: The last position of the log that the rows include.
    """
    columns = ("version", "generation", "position", "known")
    connection.execute(
        f"INSERT INTO checkpoints (view, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?)"
        f" ON CONFLICT (view) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in columns)}",
        (view.name, view.version, generation, position, known_events(view)),
    )
