"""Makes the SQL views for people in PostgreSQL, where times are of the type timestamptz."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

from lllm.events.errors import LogError
from lllm.projections.database import RowsConnection
from lllm.projections.engine.postgres.literals import literal
from lllm.projections.readable_view import ReadableView, iso_time, readable_views_of
from lllm.projections.view import View

_logger = logging.getLogger("lllm.store")

_COLUMN = r"([\w.]+)"
_TIME = re.compile(re.escape(iso_time("COLUMN")).replace("COLUMN", _COLUMN))

# Views for people that select from a view, so that it can't be dropped before them.
_DEPENDENT = """SELECT DISTINCT one.relname FROM pg_depend AS found
    JOIN pg_rewrite ON pg_rewrite.oid = found.objid JOIN pg_class AS one ON one.oid = ev_class
    WHERE found.refobjid = to_regclass(?) AND one.relkind = 'v' AND one.oid <> found.refobjid
        AND one.relnamespace = to_regnamespace(quote_ident(current_schema))
        AND starts_with(one.relname, 'readable_')"""


def select_of(readable: ReadableView) -> str:
    """Write the SELECT of a view for people in PostgreSQL's SQL.

    Args:
        readable: The view.

    Returns:
        The SELECT, with times as timestamptz.
    """
    return _TIME.sub(r"to_timestamp(\1 / 1e9)", readable.postgres or readable.select)


def drop_dependent(connection: RowsConnection, name: str) -> None:
    """Drop the views for people that select from a view; `make_readable` makes them again.

    Args:
        connection: A connection with an open transaction.
        name: The name of the view.
    """
    for (dependent,) in connection.execute(_DEPENDENT, (name,)).fetchall():
        connection.execute(f"DROP VIEW {dependent}")


def make_readable(connection: RowsConnection, views: Sequence[View]) -> None:
    """Make the SQL views for people as this version of lllm defines them.

    They are replaced and not dropped where their columns allow that, so that grants stay.

    Args:
        connection: A connection with an open transaction.
        views: The views of the store; those that are not shown are left out.
    """
    for view in views:
        for readable in readable_views_of(view):
            replaced = _tried(connection, readable, statements_of(readable))
            if replaced is None:
                continue
            failed = _tried(
                connection, readable, [f"DROP VIEW {readable.name}", *statements_of(readable)]
            )
            if failed is not None and _is_shown(connection, view):
                _logger.warning("the view %s is not made: %s", readable.name, replaced)


def statements_of(readable: ReadableView) -> list[str]:
    """Make the statements that create or replace a view for people.

    Args:
        readable: The view.

    Returns:
        The statements.
    """
    return [
        f"CREATE OR REPLACE VIEW {readable.name} AS {select_of(readable)}",
        f"COMMENT ON VIEW {readable.name} IS {literal(readable.about)}",
        *(
            f"COMMENT ON COLUMN {readable.name}.{column} IS {literal(about)}"
            for column, about in readable.columns.items()
        ),
    ]


def _tried(
    connection: RowsConnection, readable: ReadableView, statements: Iterable[str]
) -> LogError | None:
    """Run statements; if one fails, undo them, and return the error."""
    connection.execute(f"SAVEPOINT {readable.name}")
    try:
        for sql in statements:
            connection.execute(sql)
    except LogError as error:
        connection.execute(f"ROLLBACK TO SAVEPOINT {readable.name}")
        return error
    connection.execute(f"RELEASE SAVEPOINT {readable.name}")
    return None


def _is_shown(connection: RowsConnection, view: View) -> bool:
    return all(
        connection.execute("SELECT to_regclass(?) IS NOT NULL", (table.name,)).fetchone()[0]
        for table in view.tables
    )
