"""Prints a cost summary: a table with a bar for each group, and the total at the end.

Groups within a group are printed below it, indented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import plain_table, show, wished_width
from lllm.pricing.cost_summary import CostGroup, CostLine, CostSummary
from lllm.projections.session.invoke_cost import dollars, nanos
from lllm.terminal_safe import visible

_BAR = 20  # columns of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_KEY = 1_000  # characters shown of a group's name, because every row is padded to the longest
_INDENT = 2  # columns for each level
_BARS = ("green", "cyan")  # by level; the bars of inner levels are shares of the same total
# the title, and a function that formats the cell
Column = tuple[str, Callable[[CostLine], str | Text]]


def show_costs(console: Console, summary: CostSummary, by: Sequence[str]) -> None:
    """Print a cost summary.

    Args:
        console: The console to print to.
        summary: The summary to print.
        by: The names of the groups, the outermost first.
    """
    free = console.width - wished_width(console, _table(summary, by, 0))
    show(console, _table(summary, by, max(0, min(free, _BAR))))
    if summary["archived_count"]:
        show(console, Text(_archived_line(summary), "dim"))
    if _is_repriced(summary):
        show(console, Text(_basis_line(summary), "dim"))


def _table(summary: CostSummary, by: Sequence[str], bar: int) -> Table:
    """Make a table whose longest bar has `bar` columns."""
    table = plain_table()
    table.show_footer = True
    table.add_column(Text(_heading(summary, by)), Text("total"), overflow="fold")
    table.add_column("", "", width=bar)
    columns = _columns(summary)
    for title, cell in columns:
        table.add_column(title, cell(summary), justify="right", no_wrap=True)
    by_tag = by[0].startswith("tag:")
    if by_tag:
        table.add_column("SESSIONS", f"{summary['session_count']:,}", justify="right")
    most = max((group["total_cost_usd"] for group in summary["groups"]), default=0.0)
    for level, group in _rows(summary["groups"]):
        length = Text(_bar(group["total_cost_usd"], most, bar), _BARS[min(level, 1)])
        count = group["session_count"]
        sessions = ["" if count is None else f"{count:,}"] if by_tag else []
        cells = [cell(group) for _, cell in columns]
        table.add_row(_name(level, group), length, *cells, *sessions)
    return table


def _heading(summary: CostSummary, by: Sequence[str]) -> str:
    day = f"day ({summary['time_zone']})"
    names = (day if one == "day" else one.removeprefix("tag:") for one in by)
    return " / ".join(formats.shortened(name, _KEY) for name in names)


def _columns(summary: CostSummary) -> list[Column]:
    """List the columns that are not empty."""
    columns: list[Column] = [("COST", _total)]
    if _is_repriced(summary):
        columns += [
            ("RECORDED", lambda line: formats.money(line["recorded_cost_usd"])),
            ("DIFFERENCE", _difference),
        ]
    columns += [
        ("CALLS", lambda line: f"{line['calls']:,}"),
        ("FAILED", lambda line: f"{line['failed_calls']:,}"),
    ]
    if summary["wasted_cost_usd"]:
        columns.append(("WASTED", lambda line: _if_any(line["wasted_cost_usd"])))
    if summary["tool_cost_usd"]:
        columns.append(("TOOLS", lambda line: _if_any(line["tool_cost_usd"])))
    if summary["unpriced_calls"]:
        columns.append(("UNPRICED", lambda line: f"{line['unpriced_calls']:,}"))
    columns += [
        ("IN", lambda line: f"{line['prompt_tokens']:,}"),
        ("OUT", lambda line: f"{line['completion_tokens']:,}"),
    ]
    return columns


def _rows(groups: Sequence[CostGroup], level: int = 0) -> Iterator[tuple[int, CostGroup]]:
    for group in groups:
        yield level, group
        yield from _rows(group["groups"], level + 1)


def _name(level: int, group: CostGroup) -> Text:
    indent = " " * (_INDENT * level)
    if group["key"]:
        return Text(indent + formats.shortened(group["key"], _KEY))
    return Text(f"{indent}(none)", "dim")


def _total(line: CostLine) -> Text:
    if not line["total_cost_usd"] and line["unpriced_calls"]:
        return Text("unknown", "yellow")
    return Text(formats.money(line["total_cost_usd"]))


def _if_any(amount: float) -> str:
    return formats.money(amount) if amount else ""


def _difference(line: CostLine) -> str:
    more = nanos(line["total_cost_usd"]) - nanos(line["recorded_cost_usd"])
    if not line["total_cost_usd"] and line["unpriced_calls"]:
        return ""
    return ("+" if more > 0 else "-" if more < 0 else "") + formats.money(dollars(abs(more)))


def _is_repriced(summary: CostSummary) -> bool:
    return summary["prices"] != "recorded" or summary["as_model"] is not None


def _archived_line(summary: CostSummary) -> str:
    """Say how much of the costs is of sessions that are in an archive."""
    count, cost = summary["archived_count"], formats.money(summary["archived_cost_usd"])
    sessions = formats.counted(count, "archived session")
    if _is_repriced(summary):
        return f"Left out: {sessions} with {cost}, whose calls are not here to be priced anew."
    return f"Of this, {cost} by {sessions}."


def _basis_line(summary: CostSummary) -> str:
    """Name the prices that the costs are calculated with."""
    prices = {
        "recorded": "the prices of the day of each call",
        "current": "today's prices",
        "given": "the given prices; models that they do not name, at today's",
    }[summary["prices"]]
    model = f"as {visible(summary['as_model'])}, " if summary["as_model"] is not None else ""
    return f"COST is {model}at {prices}."


def _bar(amount: float, most: float, columns: int) -> str:
    """Draw a bar in eighths of a column; any amount except zero is visible."""
    if amount <= 0 or most <= 0 or not columns:
        return ""
    full, rest = divmod(max(round(amount / most * columns * 8), 1), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")
