"""Names the SQLite tables that store the rows of views, one set for each generation of rows."""

from __future__ import annotations


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
