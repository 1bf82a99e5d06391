"""Prints the rows of an SQL query, one by one: as a table for people, or as CSV or JSON."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lllm.cli.render.console import joined, plain_table, show_rows, stdout
from lllm.cli.render.csv_text import show_csv
from lllm.cli.render.json_text import harmless
from lllm.store.query_timeout import Cell, QueryRows
from lllm.terminal_safe import visible

_WIDEST_NAME = 24  # columns for the names of columns beside their values


def print_json(rows: QueryRows, limit: int | None, *, lines: bool) -> int:
    """Print rows as JSON objects.

    Args:
        rows: The rows to print.
        limit: The greatest number of rows; None or 0 for all.
        lines: True for an object on each line, False for one array.

    Returns:
        The number of printed rows.
    """
    names = [json.dumps(name) for name in rows.columns]
    count = 0
    for row in _first(rows, limit):
        before = "" if lines else ",\n" if count else "[\n"
        cells = (f"{name}:{_json_value(cell)}" for name, cell in zip(names, row, strict=True))
        _write(f"{before}{{{','.join(cells)}}}" + ("\n" if lines else ""))
        count += 1
    if not lines:
        _write("\n]\n" if count else "[]\n")
    sys.stdout.flush()
    return count


def print_csv(rows: QueryRows, limit: int | None) -> int:
    """Print rows as CSV; NULL is empty, bytes are hex.

    Args:
        rows: The rows to print.
        limit: The greatest number of rows; None or 0 for all.

    Returns:
        The number of printed rows.
    """
    lines = (
        [cell.hex() if isinstance(cell, bytes) else cell for cell in row]
        for row in _first(rows, limit)
    )
    return show_csv(rows.columns, lines)


def print_table(rows: QueryRows, limit: int) -> int:
    """Print rows as a table, or one line for each value if that does not fit.

    Args:
        rows: The rows to print.
        limit: The greatest number of rows; 0 for all. If there are more, a line on stderr says so.

    Returns:
        The number of printed rows.
    """
    found = list(_first(rows, limit + 1 if limit else None))
    page = found[:limit] if limit else found
    if page:
        console = stdout()
        show_rows(
            console, [_table(rows.columns, page)], _value_lines(console, rows.columns, page), None
        )
    if len(found) > len(page):
        click.echo(
            f"There are more rows; these are the first {limit:,}. --limit N shows more (0 for "
            "all), and --csv or --nl prints them as they come.",
            err=True,
        )
    return len(page)


def _first(rows: QueryRows, limit: int | None) -> Iterator[tuple[Cell, ...]]:
    return islice(rows, limit or None)


def _write(json_text: str) -> None:
    """Print a part of the output; on a terminal, dangerous characters are escaped."""
    sys.stdout.write(harmless(json_text) if sys.stdout.isatty() else json_text)


def _json_value(cell: Cell) -> str:
    if isinstance(cell, bytes):
        return json.dumps({"$base64": True, "encoded": base64.b64encode(cell).decode()})
    if isinstance(cell, float) and math.isinf(cell):
        return "9e999" if cell > 0 else "-9e999"  # as SQLite writes it (sqlite.org/json1.html)
    return json.dumps(cell, ensure_ascii=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = plain_table()
    for at, name in enumerate(columns):
        numbers = all(isinstance(row[at], int | float | None) for row in rows)
        table.add_column(Text(visible(name)), justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell_text, row))
    return table


def _value_lines(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> Iterator[Iterable[Text]]:
    """Format a row as one line for each value, for a narrow terminal."""
    names = [visible(name) for name in columns]
    width = min(max(map(len, names)), _WIDEST_NAME, console.width // 2)
    for number, row in enumerate(rows, start=1):
        heading = [Text(f"row {number:,}", "dim")] if len(rows) > 1 else []
        yield [
            *heading,
            *(
                joined((Text(name.ljust(width), "bold"), _cell_text(cell)), "  ")
                for name, cell in zip(names, row, strict=True)
            ),
        ]


def _cell_text(cell: Cell) -> Text:
    if cell is None:
        return Text("NULL", "dim")
    if isinstance(cell, bytes):
        return Text(f"x'{cell.hex()}'")
    return Text(visible(str(cell)))
