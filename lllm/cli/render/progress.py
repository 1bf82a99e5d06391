"""Shows a progress bar for long commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A `with` that shows a progress bar on stderr, if that is a terminal.

    Args:
        title: The name of the task.

    Yields:
        A function that takes the current and the final position; None without a terminal.
    """
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
