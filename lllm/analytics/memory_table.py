"""Reads one table for analysts into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lllm.analytics.arrow_batches import TableRow, batch_of, schema_of, table_of
from lllm.analytics.columns import TableName
from lllm.analytics.store_tables import StoreTables
from lllm.events.backend import LogBackend
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.session_months import selected_by_month
from lllm.projections.queries.sessions import reading
from lllm.store.read_model import ReadModel

if TYPE_CHECKING:
    import pyarrow


def read_table(log: LogBackend, rows: ReadModel, wanted: Filter, table: TableName) -> pyarrow.Table:
    """Read a table; see `LogStore.to_arrow`.

    Args:
        log: The log.
        rows: The rows of the store, which are up to date.
        wanted: The filter of the sessions.
        table: The name of the table.

    Returns:
        The table.
    """
    schema = schema_of(table)
    batches: list[pyarrow.RecordBatch] = []

    def flush(_: TableName, some: list[TableRow]) -> None:
        batches.append(batch_of(schema, some))

    def numbers_of(database: RowsDatabase) -> list[int]:
        with reading(database) as connection:
            months = selected_by_month(connection, wanted).values()
        return sorted(number for numbers in months for number in numbers)

    StoreTables(log, rows, [table]).read(rows.ask(numbers_of), flush, lambda _: None)
    return table_of(table, batches)
