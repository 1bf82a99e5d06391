"""Prints to a terminal, fitted to its width, or to a pipe, without cutting anything.

Nothing here is printed as markup: texts of users and models are wrapped in `rich.text.Text`, and
rich's own interpretation of brackets, emoji codes and numbers is off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lllm.events.model import State
from lllm.terminal_safe import visible

_UNBOUNDED = 1 << 30  # columns of a pipe, so that no line is cut or wrapped
_MUCH = 1 << 30  # columns for measuring a table without a limit
# columns of the widest table; in a wider one, every row would be padded to the longest
_WIDEST = 10_000

_SIGNS: dict[State, tuple[str, str]] = {
    "success": ("✓", "green"),
    "failure": ("✗", "red"),
    "running": ("▸", "cyan"),
    "interrupted": ("!", "yellow"),
}


class _Console(Console):
    """A console that ends the command if its reader has stopped reading."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """Make a console for standard output.

    Styles are only used on a terminal, and NO_COLOR turns off all of them, also bold and dim
    (https://no-color.org).

    Returns:
        A console that prints to stdout.
    """
    return _console(width=None if sys.stdout.isatty() else _UNBOUNDED)


def stderr() -> Console:
    """Make a console for standard error; see `stdout` for its styles."""
    return _console(stderr=True, width=None if sys.stderr.isatty() else _UNBOUNDED)


def _console(*, stderr: bool = False, width: int | None) -> Console:
    return _Console(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )  # fmt: skip


def show(console: Console, *renderables: RenderableType) -> None:
    """Print objects, without the trailing spaces of tables.

    Args:
        console: The console to print to.
        *renderables: The objects to print, each on a new line.
    """
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    lines = capture.get().split("\n")
    console.file.write("\n".join(line.rstrip(" ") for line in lines))
    console.file.flush()


def plain_table(*, header: bool = True) -> Table:
    """Make an empty table without lines, with two spaces between columns.

    Args:
        header: True to show the names of the columns.

    Returns:
        A table to add columns and rows to.
    """
    return Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", footer_style="bold",
        show_header=header,
    )  # fmt: skip


def wished_width(console: Console, table: Table) -> int:
    """Measure the width in columns that a table needs to be shown in full.

    Args:
        console: The console on which the table will be printed.
        table: The table to measure.

    Returns:
        The width in columns; it may be more than the console has.
    """
    return console.measure(table, options=console.options.update_width(_MUCH)).maximum


def show_rows(
    console: Console,
    tables: Iterable[Table],
    rows: Iterable[Iterable[RenderableType]],
    offset: str | None,
) -> None:
    """Print the first table that fits the width, or several lines for each row if none fits.

    Args:
        console: The console to print to.
        tables: Tables of the same rows, the widest first.
        rows: The lines of each row, printed if no table fits.
        offset: The UTC offset of all times in the rows, printed above them; None if the rows show
            it themselves.
    """
    for table in tables:
        if wished_width(console, table) <= min(console.width, _WIDEST):
            show(console, table)
            return
    if offset is not None:
        show(console, Text(f"times are {offset}", "dim"))
    for lines in rows:
        show(console, *lines)


def sign(state: State) -> Text:
    """Get the symbol for a state, which is readable without colour.

    Args:
        state: The state of a session, a call or a tool.

    Returns:
        A single character, coloured.
    """
    mark, style = _SIGNS[state]
    return Text(mark, style)


def state_text(state: State) -> Text:
    """Format a state with its symbol; see `sign`."""
    mark, style = _SIGNS[state]
    return Text(f"{mark} {state}", style)


def joined(parts: Sequence[str | Text], separator: str = " · ") -> Text:
    """Join the texts that are not empty.

    Args:
        parts: The texts; they keep their styles.
        separator: The text between them; it is dim.

    Returns:
        A single line.
    """
    line = Text()
    for part in parts:
        if part:
            line.append(separator if line else "", "dim")
            line.append(part) if isinstance(part, str) else line.append_text(part)
    return line


def labelled(label: str, value: str | Text) -> Text:
    """Put a dim label in front of a value.

    Args:
        label: The name of the value; it is escaped.
        value: The value; it must be safe to print.

    Returns:
        A single line.
    """
    return Text.assemble((f"{visible(label)} ", "dim"), value)
