"""The methods of LogStore that make typed tables for analysts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

from lllm.events.backends.location import local_path
from lllm.store.filters import ListFilters, filter_from
from lllm.store.methods.exporting import ExportsSessions

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from lllm.analytics.parquet_export import ExportedParquet


class MakesTables(ExportsSessions):
    """Methods of LogStore that make typed tables for analysts. See LogStore."""

    def export_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
        **filters: Unpack[ListFilters],
    ) -> ExportedParquet:
        """Write sessions, calls, attempts, messages, tools, tags and costs as Parquet files.

        Each month has a folder `month=2026-11` with a file for each table. A second export writes
        only the months in which something has changed since, and replaces each as a whole: what was
        erased meanwhile is gone from it. The extra `analytics` has the library that it needs.

        Args:
            path: The folder, new or of an earlier export of this store with the same filters.
            progress: A function that is called with the number of sessions so far and in all.
            **filters: The filters of `list_sessions`. Sessions below those that they select are
                written, too.

        Returns:
            The months and the numbers of rows that were written.

        Raises:
            MissingExtra: pyarrow is not installed.
            StoreError: The folder has something else, or can't be written.
            ValueError: A filter is invalid.
            TypeError: A filter has another type.
        """
        from lllm.analytics.arrow_batches import require_pyarrow
        from lllm.analytics.parquet_export import export_parquet

        require_pyarrow()
        wanted = filter_from(self._runtime, filters)
        self._reader.catch_up()
        return export_parquet(self.log, self._rows, wanted, local_path(path).resolve(), progress)

    def to_arrow(self, table: str, **filters: Unpack[ListFilters]) -> pyarrow.Table:
        """Read a table for analysts into memory, as an Arrow table.

        Args:
            table: "sessions", "calls", "attempts", "messages", "tools", "tags" or "costs"; the
                guide "Analytics" explains their columns.
            **filters: The filters of `list_sessions`. What is below the selected sessions is in the
                table, too.

        Returns:
            The table, session by session in the order of their starts.

        Raises:
            MissingExtra: pyarrow is not installed.
            ValueError: There is no such table, or a filter is invalid.
            TypeError: A filter has another type.
        """
        from lllm.analytics.arrow_batches import require_pyarrow
        from lllm.analytics.columns import table_named
        from lllm.analytics.memory_table import read_table

        require_pyarrow()
        name, wanted = table_named(table), filter_from(self._runtime, filters)
        self._reader.catch_up()
        return read_table(self.log, self._rows, wanted, name)

    def to_pandas(self, table: str, **filters: Unpack[ListFilters]) -> pandas.DataFrame:
        """Read a table for analysts into memory, as a pandas DataFrame.

        Its columns have the types of the Arrow table (`pandas.ArrowDtype`): dollars stay exact
        decimal numbers, integers stay integers where some are missing, and missing values are NA.

        Args:
            table: The table; see `to_arrow`.
            **filters: The filters of `list_sessions`; see `to_arrow`.

        Returns:
            The data frame.

        Raises:
            MissingExtra: pyarrow or pandas is not installed.
            ValueError: There is no such table, or a filter is invalid.
            TypeError: A filter has another type.
        """
        from lllm.analytics.arrow_batches import require_pyarrow

        require_pyarrow("pandas")
        found = self.to_arrow(table, **filters)
        import pandas

        return found.to_pandas(types_mapper=pandas.ArrowDtype)
