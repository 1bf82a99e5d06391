"""Turns rows of Python values into Arrow tables with the types of `columns`.

pyarrow is imported when a table is made: it is in the extra `analytics`, and takes long to load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from lllm.analytics.columns import TABLES, TableColumn, TableName
from lllm.events.errors import MissingExtra
from lllm.projections.view import storable

if TYPE_CHECKING:
    import pyarrow

TableRow = Sequence[object]


def require_pyarrow(package: str = "pyarrow") -> None:
    """Raise MissingExtra if a library for tables is not installed.

    Args:
        package: The library, "pyarrow" or "pandas".
    """
    try:
        __import__(package)
    except ImportError as error:
        raise MissingExtra(
            f"Parquet files, Arrow tables and data frames need the library {package!r}, which is "
            'not installed. It is in an extra: pip install "lllm[analytics]"'
        ) from error


def schema_of(table: TableName) -> pyarrow.Schema:
    """Make the Arrow schema of a table.

    Args:
        table: The name of the table.

    Returns:
        The types of its columns, with what each says as metadata.
    """
    import pyarrow

    return pyarrow.schema(
        [
            pyarrow.field(
                column.name, _type_of(column), column.nullable, {"description": column.about}
            )
            for column in TABLES[table]
        ]
    )


def _type_of(column: TableColumn) -> pyarrow.DataType:
    import pyarrow

    if column.kind == "text":
        return pyarrow.string()
    if column.kind == "boolean":
        return pyarrow.bool_()
    if column.kind == "time":
        return pyarrow.timestamp("ns", tz="UTC")
    if column.kind == "dollars":
        return pyarrow.decimal128(38, 9)
    return pyarrow.int64()


def batch_of(schema: pyarrow.Schema, rows: Sequence[TableRow]) -> pyarrow.RecordBatch:
    """Make a batch of rows.

    Args:
        schema: The schema of their table.
        rows: At least one row. Times and durations are nanoseconds, dollars are nano-dollars.

    Returns:
        The batch.
    """
    import pyarrow

    columns = zip(*rows, strict=True)
    arrays = [_array(values, type_) for values, type_ in zip(columns, schema.types, strict=True)]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[object], type_: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow

    if pyarrow.types.is_string(type_):
        return _texts(cast("Sequence[str | None]", values))
    if pyarrow.types.is_timestamp(type_):
        return pyarrow.array(values, pyarrow.int64()).cast(type_)
    if pyarrow.types.is_decimal(type_):
        # A decimal number is stored as an integer with a scale, so nano-dollars stay exact, and
        # no object is made for each of them.
        whole = pyarrow.array(values, pyarrow.int64()).cast(pyarrow.decimal128(38, 0))
        return pyarrow.Array.from_buffers(type_, len(whole), whole.buffers(), whole.null_count)
    return pyarrow.array(values, type_)


def _texts(values: Sequence[str | None]) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(values, pyarrow.string())
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 can't hold
        escaped = [None if text is None else storable(text) for text in values]
        return pyarrow.array(escaped, pyarrow.string())


def table_of(table: TableName, batches: Iterable[pyarrow.RecordBatch]) -> pyarrow.Table:
    """Make one Arrow table of batches.

    Args:
        table: The name of the table.
        batches: Its batches; none for an empty table.

    Returns:
        The table.
    """
    import pyarrow

    return pyarrow.Table.from_batches(batches, schema=schema_of(table))
