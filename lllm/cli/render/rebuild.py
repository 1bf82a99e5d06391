"""What a rebuild shows: how far it is, and where a check found the rows wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lllm.cli.render.formats import shortened
from lllm.projections.engine.rebuild import Difference
from lllm.terminal_safe import visible


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr while inside, where that is a terminal, else None. It is told how
    far the work is: (reached, to reach), in positions of the log."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from lllm.cli.render.console import stderr

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=stderr(), transient=True) as bars:
        task = bars.add_task(title, total=None)

        def report(reached: int, to_reach: int) -> None:
            bars.update(task, completed=reached, total=to_reach)

        yield report


def explained(difference: Difference) -> str:
    """A difference on one line: which row, and only the columns that differ."""
    key = ", ".join(f"{name} {shortened(value, 80)}" for name, value in difference.key.items())
    row = f"{visible(difference.table)}, row {key}"
    if difference.stored is None:
        return f"{row}: it is missing"
    if difference.rebuilt is None:
        return f"{row}: no event speaks of it"
    stored, rebuilt = difference.stored, difference.rebuilt
    said = [
        f"{name} is {shortened(stored.get(name), 80)}, by the events {shortened(value, 80)}"
        for name, value in rebuilt.items()
        if stored.get(name) != value
    ]
    return f"{row}: {'; '.join(said)}"
