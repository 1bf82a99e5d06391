"""Prints statistics of attempts to call a model: a table with a row for each group."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import plain_table, show
from lllm.projections.queries.call_statistics import CallStatistics, CallSummary
from lllm.terminal_safe import visible


def show_call_statistics(console: Console, summary: CallSummary, by: str) -> None:
    """Print a summary of attempts.

    Args:
        console: The console to print on.
        summary: The statistics of the attempts.
        by: What the attempts of a group have in common, for the heading of the first column.
    """
    streams = summary.total.first_token_p50 is not None
    table = plain_table()
    table.show_footer = True
    table.add_column(by, "total", overflow="fold")
    names = ["CALLS", "FAILED", "429", "RETRIES", "HALF WITHIN", "95 % WITHIN", "99 % WITHIN"]
    names += ["FIRST TOKEN: HALF", "95 %"] if streams else []
    for title, cell in zip(names, _cells(summary.total, streams), strict=True):
        table.add_column(title, cell, justify="right", no_wrap=True)
    for group in summary.groups:
        name = Text(visible(group.key)) if group.key else Text("(none)", "dim")
        table.add_row(name, *_cells(group, streams))
    show(console, table)
    if not summary.complete:
        show(console, Text(f"Of the newest {formats.counted(summary.total.calls, 'call')} only; "
                           "--after and --before choose others.", "yellow"))  # fmt: skip
    if summary.removed_calls:
        removed = formats.counted(summary.removed_calls, "call")
        show(console, Text(f"Without {removed} of archived and erased sessions.", "dim"))


def _cells(one: CallStatistics, streams: bool) -> list[Text]:
    share = f" ({100 * one.failed_calls / one.calls:.1f} %)" if one.failed_calls else ""
    cells = [
        Text(f"{one.calls:,}"),
        Text(f"{one.failed_calls:,}{share}", "red" if one.failed_calls else ""),
        Text(f"{one.rate_limited_calls:,}"),
        Text(f"{one.retries:,}"),
    ]
    elapsed = (one.elapsed_p50, one.elapsed_p95, one.elapsed_p99)
    cells += [Text(formats.duration(time)) for time in elapsed]
    if streams:
        cells += [
            Text(formats.duration(time)) for time in (one.first_token_p50, one.first_token_p95)
        ]
    return cells
