"""The rows of a query as a table for people, or as CSV or JSON for other programs, which get each
row as it comes."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lllm.cli.render.console import joined, show_rows, stdout
from lllm.cli.render.json_text import harmless
from lllm.store.query_timeout import Cell, TimedRows
from lllm.terminal_safe import visible, visible_lines

_WIDEST_NAME = 24  # columns for names beside their values


def print_json(rows: TimedRows, limit: int | None, *, lines: bool) -> int:
    """Print an array of objects, or with `lines` an object on each line. Returns how many."""
    names = [json.dumps(name) for name in rows.columns]
    count = 0
    for row in _first(rows, limit):
        before = "" if lines else ",\n" if count else "[\n"
        _write(before + _json_object(names, row) + ("\n" if lines else ""))
        count += 1
    if not lines:
        _write("\n]\n" if count else "[]\n")
    sys.stdout.flush()
    return count


def print_csv(rows: TimedRows, limit: int | None) -> int:
    """Print a heading and a line for each row (RFC 4180, with the line ends of all other output);
    NULL is empty, bytes are hex. Returns how many."""
    count = 0
    _write(_csv_line(rows.columns), csv_=True)
    for row in _first(rows, limit):
        count += 1
        _write(_csv_line([_csv_cell(cell) for cell in row]), csv_=True)
    sys.stdout.flush()
    return count


def print_table(rows: TimedRows, limit: int) -> int:
    """Print a table, or where it has not the room, a line for each value. Nothing is cut; rows
    behind the limit are spoken of on stderr. limit: 0 for none. Returns how many."""
    found = list(_first(rows, limit + 1 if limit else None))
    page = found[:limit] if limit else found
    if page:
        console = stdout()
        show_rows(
            console, [_table(rows.columns, page)], _records(console, rows.columns, page), None
        )
    if len(found) > len(page):
        click.echo(
            f"There are more rows; these are the first {limit:,}. --limit N shows more (0 for "
            "all), and --csv or --nl prints them as they come.",
            err=True,
        )
    return len(page)


def _first(rows: TimedRows, limit: int | None) -> Iterator[tuple[Cell, ...]]:
    return islice(rows, limit or None)


def _write(text: str, *, csv_: bool = False) -> None:
    """Print a part; on a terminal, what could harm it becomes escapes."""
    if sys.stdout.isatty():
        text = f"{visible_lines(text)}\n" if csv_ else harmless(text)
    sys.stdout.write(text)


def _csv_line(cells: Sequence[object]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()


def _csv_cell(cell: Cell) -> Cell:
    return cell.hex() if isinstance(cell, bytes) else cell


def _json_object(names: Sequence[str], row: Sequence[Cell]) -> str:
    cells = (f"{name}:{_json(cell)}" for name, cell in zip(names, row, strict=True))
    return f"{{{','.join(cells)}}}"


def _json(cell: Cell) -> str:
    if isinstance(cell, bytes):
        return json.dumps({"$base64": True, "encoded": base64.b64encode(cell).decode()})
    if isinstance(cell, float) and math.isinf(cell):
        return "9e999" if cell > 0 else "-9e999"  # as SQLite writes it (sqlite.org/json1.html)
    return json.dumps(cell, ensure_ascii=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at, name in enumerate(columns):
        numbers = all(isinstance(row[at], int | float | None) for row in rows)
        table.add_column(Text(visible(name)), justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(_shown, row))
    return table


def _records(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> Iterator[Iterable[Text]]:
    """For a narrow terminal, which wraps what is long."""
    names = [visible(name) for name in columns]
    width = min(max(map(len, names)), _WIDEST_NAME, console.width // 2)
    for number, row in enumerate(rows, start=1):
        heading = [Text(f"row {number:,}", "dim")] if len(rows) > 1 else []
        yield [
            *heading,
            *(
                joined((Text(name.ljust(width), "bold"), _shown(cell)), "  ")
                for name, cell in zip(names, row, strict=True)
            ),
        ]


def _shown(cell: Cell) -> Text:
    if cell is None:
        return Text("NULL", "dim")
    if isinstance(cell, bytes):
        return Text(f"x'{cell.hex()}'")
    return Text(visible(str(cell)))
