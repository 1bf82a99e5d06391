"""Checks the names of views and tables, and names the tables of each generation of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lllm.events.errors import ViewError

if TYPE_CHECKING:
    from lllm.projections.view import View

_TAKEN = (
    "events",
    "payloads",
    "format",
    "checkpoints",
    "erasures",
    "views_off",
    "otel_sent",
)  # tables of lllm in the same file


def generation_table(table: str, generation: int) -> str:
    """Make the name of the table that stores one generation of rows.

    Args:
        table: The name of the table of a view.
        generation: The number of the generation, from 1.

    Returns:
        The name of the table in SQLite.
    """
    return f"{table}_v{generation}"


def search_table(table: str, generation: int) -> str:
    """Make the name of the search index that belongs to one generation of rows.

    Args:
        table: The name of a table with `search`.
        generation: The number of the generation, from 1.

    Returns:
        The name of the FTS5 table in SQLite; FTS5 adds tables with longer names.
    """
    return f"{generation_table(table, generation)}_search"


def search_totals(index: str) -> str:
    """Make the name of the table with the number of texts and words in an index in PostgreSQL.

    Args:
        index: The name of the index's table, from `search_table`.

    Returns:
        The name of the table.
    """
    return f"{index}_totals"


def check_names(views: Sequence[View]) -> None:
    """Check that the names of views and tables are valid and don't collide.

    Args:
        views: All views of a store.

    Raises:
        ViewError: Two views or tables share a name, or a name is not allowed.
    """
    names = [view.name for view in views]
    tables = [table.name for view in views for table in view.tables]
    for name in names + tables:
        if not (name.isidentifier() and name.isascii()) or name in _TAKEN:
            raise ViewError(
                f"{name!r} can't name a view or table: use letters, digits and _, and none of "
                f"{', '.join(_TAKEN)}."
            )
    for what, given in (("views", names), ("tables", tables)):
        twice = {name for name in given if given.count(name) > 1}
        if twice:
            raise ViewError(f"Two {what} have the name {min(twice)!r}; rename one of them.")
