"""Writes the SQL of the tables and views of rows, for an administrator who wants to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lllm.projections.database import Cursor
from lllm.projections.engine.postgres.literals import literal
from lllm.projections.engine.postgres.readable import statements_of
from lllm.projections.engine.postgres.search_index import finishing_statements
from lllm.projections.engine.postgres.tables import (
    create_checkpoints,
    create_tables,
    create_views_off,
)
from lllm.projections.readable_view import readable_views_of
from lllm.projections.table_names import generation_table
from lllm.projections.view import View


def row_statements(views: Sequence[View]) -> list[str]:
    """Write the SQL that lllm runs for the first generation of the rows of some views.

    Args:
        views: The views.

    Returns:
        The statements, in their order.
    """
    script = _Script()
    create_checkpoints(script)
    create_views_off(script)
    for view in views:
        create_tables(script, view, 1)
        for table in view.tables:
            name = generation_table(table.name, 1)
            script.sql += [index.create(name) for index in table.indexes if not index.unique]
            if table.search is not None:
                script.sql += finishing_statements(table, 1)
            script.sql.append(f"CREATE VIEW {table.name} AS SELECT * FROM {name}")
            script.sql.append(f"COMMENT ON VIEW {table.name} IS {literal(table.about)}")
    for view in views:
        for readable in readable_views_of(view):
            script.sql += statements_of(readable)
    return [sql for sql in script.sql if not sql.startswith(("SELECT", "ANALYZE"))]


class _Script:
    """Collects statements in place of a connection."""

    engine = "postgres"

    def __init__(self) -> None:
        self.sql: list[str] = []

    def execute(self, sql: str, _: Sequence[Any] = (), /) -> Cursor:
        self.sql.append(sql)
        return _Nothing()

    def executemany(self, sql: str, _: object, /) -> None:
        self.sql.append(sql)


class _Nothing:
    """The result of a statement that was not run."""

    def fetchone(self) -> None:
        return None

    def fetchall(self) -> list[Any]:
        return []

    def fetchmany(self, _: int, /) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise StopIteration
