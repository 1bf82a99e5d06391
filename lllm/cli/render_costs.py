"""What was spent, as a table with a bar for each group and the total below."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lllm.cli import shown
from lllm.cli.terminal import show
from lllm.cost_summary import CostLine, CostSummary

_Count = Literal["calls", "failed_calls", "unpriced_calls", "prompt_tokens", "completion_tokens"]

_BAR = 20  # columns of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MUCH = 1 << 30  # columns, to measure what a table would like to have
_KEY = 1_000  # characters shown of a group's name; every row is padded to the longest
_COUNTS: tuple[tuple[str, _Count], ...] = (
    ("CALLS", "calls"),
    ("FAILED", "failed_calls"),
    ("UNPRICED", "unpriced_calls"),
    ("IN", "prompt_tokens"),
    ("OUT", "completion_tokens"),
)


def show_costs(console: Console, summary: CostSummary, group_by: str) -> None:
    """Print a summary that was made with this `group_by`."""
    bare = _table(summary, group_by, 0)
    free = (
        console.width - console.measure(bare, options=console.options.update_width(_MUCH)).maximum
    )
    show(console, _table(summary, group_by, max(0, min(free, _BAR))))


def _table(summary: CostSummary, group_by: str, bar: int) -> Table:
    """bar: columns of the longest bar."""
    by_tag = group_by.startswith("tag:")
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_footer=True,
        footer_style="bold",
    )  # fmt: skip
    heading = "day (UTC)" if group_by == "day" else group_by.removeprefix("tag:")
    table.add_column(Text(shown.shortened(heading, _KEY)), Text("total"), overflow="fold")
    table.add_column("", "", width=bar)
    table.add_column("COST", _money(summary), justify="right", no_wrap=True)
    for title, key in _COUNTS:
        table.add_column(title, f"{summary[key]:,}", justify="right", no_wrap=True)
    if by_tag:
        table.add_column("SESSIONS", f"{summary['session_count']:,}", justify="right")
    most = max((group["total_cost_usd"] for group in summary["groups"]), default=0.0)
    for group in summary["groups"]:
        key_text = (
            Text(shown.shortened(group["key"], _KEY)) if group["key"] else Text("(none)", "dim")
        )
        counts = [f"{group[name]:,}" for _, name in _COUNTS]
        sessions = [f"{group['session_count'] or 0:,}"] if by_tag else []
        length = Text(_bar(group["total_cost_usd"], most, bar), "green")
        table.add_row(key_text, length, _money(group), *counts, *sessions)
    return table


def _money(line: CostLine) -> Text:
    if not line["total_cost_usd"] and line["unpriced_calls"]:
        return Text("unknown", "yellow")
    return Text(shown.money(line["total_cost_usd"]))


def _bar(amount: float, most: float, columns: int) -> str:
    """A bar in eighths of a column; any amount that is not zero shows."""
    if amount <= 0 or most <= 0 or not columns:
        return ""
    full, rest = divmod(max(round(amount / most * columns * 8), 1), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")
