"""Prints a list of sessions: a table if it fits, else several lines for each.

Ids are never cut, so that they can be copied.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import joined, plain_table, show_rows, state_text
from lllm.store.summaries import SessionSummary
from lllm.terminal_safe import visible

# characters of tasks and errors, tried in this order until they fit
_LONGEST = (1 << 30, 60, 40, 24)
_INDENT = 4  # columns


def show_list(console: Console, summaries: Sequence[SessionSummary], zone: dt.tzinfo) -> None:
    """Print sessions, in the given order.

    Args:
        console: The console to print to.
        summaries: The sessions.
        zone: The time zone of the times shown.
    """
    offset = formats.one_offset((one.timestamp for one in summaries), zone)
    show_rows(
        console,
        (_table(summaries, zone, offset, longest) for longest in _LONGEST),
        (_lines(one, zone, offset, console.width - _INDENT) for one in summaries),
        offset,
    )


def _table(
    summaries: Sequence[SessionSummary], zone: dt.tzinfo, offset: str | None, longest: int
) -> Table:
    """Make a table with tasks and errors cut to `longest` characters."""
    tasks = any(one.task or one.erased or one.archived for one in summaries)
    errors = any(one.error for one in summaries)
    origins = any(one.replays or one.forks for one in summaries)
    started = "STARTED" if offset is None else f"STARTED ({offset})"
    table = plain_table()
    for name, right in (
        ("ID", False), ("STATE", False), ("TACTIC", False), (started, False), ("TOOK", True),
        ("CALLS", True), ("TOKENS", True), ("COST", True), ("TAGS", False),
    ):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for name, there in (("FROM", origins), ("TASK", tasks), ("ERROR", errors)):
        if there:
            table.add_column(name, no_wrap=True)
    for one in summaries:
        table.add_row(
            Text(visible(one.session_id)),
            state_text(one.state),
            Text(visible(one.tactic_path)),
            Text(formats.moment_below(one.timestamp, zone, offset)),
            Text(formats.duration(one.elapsed)),
            Text(_calls(one)),
            Text(f"{one.prompt_tokens + one.completion_tokens:,}"),
            Text(_cost(one)),
            Text(formats.tag_list(one.tags), "cyan"),
            *([Text(_origin(one), "dim")] if origins else []),
            *([Text(formats.cut(_task(one), longest))] if tasks else []),
            *([_error(one, longest)] if errors else []),
        )
    return table


def _task(one: SessionSummary) -> str:
    """The task of a session, or where its content went."""
    return one.task or one.erased or one.archived or ""


def _lines(
    one: SessionSummary, zone: dt.tzinfo, offset: str | None, room: int
) -> Iterator[Text | Padding]:
    """Format a session as several lines, with `room` columns for a task or an error."""
    yield joined(
        (
            visible(one.session_id),
            state_text(one.state),
            formats.moment_below(one.timestamp, zone, offset),
            formats.duration(one.elapsed) if one.elapsed is not None else "",
        ),
        "  ",
    )
    details = joined(
        (
            Text(visible(one.tactic_path), "bold"),
            f"{_calls(one)} call{'s' if _calls(one) != '1' else ''}",
            f"{one.prompt_tokens + one.completion_tokens:,} tokens",
            _cost(one) if one.calls else "",
            Text(formats.tag_list(one.tags), "cyan"),
        )
    )
    yield Padding(details, (0, 0, 0, _INDENT), expand=False)
    if one.replays or one.forks:
        yield Padding(Text(_origin(one), "dim"), (0, 0, 0, _INDENT), expand=False)
    if one.task:
        task = Text.assemble(("task ", "dim"), formats.cut(one.task, room - len("task ")))
        yield Padding(task, (0, 0, 0, _INDENT), expand=False)
    gone = one.erased or one.archived
    if gone:
        yield Padding(Text(formats.cut(gone, room)), (0, 0, 0, _INDENT), expand=False)
    if one.error:
        yield Padding(_error(one, room), (0, 0, 0, _INDENT), expand=False)


def _origin(one: SessionSummary) -> str:
    """Name the session that a replay or a fork is made from; "" for any other."""
    if one.replays:
        return f"replay of {visible(one.replays)}"
    return f"fork of {visible(one.forks)}" if one.forks else ""


def _error(one: SessionSummary, longest: int) -> Text:
    """Format a session's error on one line of `longest` characters."""
    return Text(formats.cut(formats.error_line(one.error or ""), longest), "red")


def _calls(one: SessionSummary) -> str:
    """Format the counts of answered and failed calls."""
    return f"{one.calls:,} + {one.failed_calls:,} failed" if one.failed_calls else f"{one.calls:,}"


def _cost(one: SessionSummary) -> str:
    return formats.money(one.total_cost, one.unpriced_calls) if one.calls else "-"
