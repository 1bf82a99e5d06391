"""Where the command line prints: a terminal of some width, or a pipe that gets everything.

Nothing that is printed here is markup: texts of users and models come as `rich.text.Text`, and
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

_UNBOUNDED = 1 << 30  # columns of a pipe: no line there is cut or wrapped
_MUCH = 1 << 30  # columns, to measure what a table would like to have
_WIDEST = 10_000  # columns of a table; in a wider one, every row would be padded to the longest

_SIGNS: dict[State, tuple[str, str]] = {
    "success": ("✓", "green"),
    "failure": ("✗", "red"),
    "running": ("▸", "cyan"),
    "interrupted": ("!", "yellow"),
}


class _Console(Console):
    """A console whose reader may go away, which is for the whole command to notice."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The standard output. Styles are for terminals, and NO_COLOR turns all of them off there, bold
    and dim too (https://no-color.org)."""
    return _console(width=None if sys.stdout.isatty() else _UNBOUNDED)


def stderr() -> Console:
    """Standard error."""
    return _console(stderr=True, width=None if sys.stderr.isatty() else _UNBOUNDED)


def _console(*, stderr: bool = False, width: int | None) -> Console:
    return _Console(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )  # fmt: skip


def show(console: Console, *renderables: RenderableType) -> None:
    """Print, without the spaces that tables leave at the ends of lines."""
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    lines = capture.get().split("\n")
    console.file.write("\n".join(line.rstrip(" ") for line in lines))
    console.file.flush()


def fits(console: Console, table: Table) -> bool:
    """Whether a table has the room that it would like to have."""
    wished = console.measure(table, options=console.options.update_width(_MUCH)).maximum
    return wished <= min(console.width, _WIDEST)


def show_rows(
    console: Console,
    tables: Iterable[Table],
    rows: Iterable[Iterable[RenderableType]],
    offset: str | None,
) -> None:
    """Show the first of some tables that has the room it would like to have, else rows of several
    lines each. offset: of all times, which the rows don't tell."""
    for table in tables:
        if fits(console, table):
            show(console, table)
            return
    if offset is not None:
        show(console, Text(f"times are {offset}", "dim"))
    for lines in rows:
        show(console, *lines)


def sign(state: State) -> Text:
    """The sign of a state, which says it without colour."""
    mark, style = _SIGNS[state]
    return Text(mark, style)


def state_text(state: State) -> Text:
    """A state with its sign."""
    mark, style = _SIGNS[state]
    return Text(f"{mark} {state}", style)


def joined(parts: Sequence[str | Text], separator: str = " · ") -> Text:
    """The parts that are not empty, on one line."""
    line = Text()
    for part in parts:
        if part:
            line.append(separator if line else "", "dim")
            line.append(part) if isinstance(part, str) else line.append_text(part)
    return line
