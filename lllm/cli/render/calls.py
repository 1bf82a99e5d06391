"""Prints a list of attempts to call a model: a table if it fits, else several lines for each.

Session ids are never cut, so that they can be copied.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import joined, plain_table, show_rows, sign
from lllm.events.errors import InvokeError
from lllm.projections.session.step_names import step_name
from lllm.store.call_records import CallRecord
from lllm.terminal_safe import visible

_CUTS = ((64, 64), (40, 40), (28, 28))  # characters of an error and of a task, the widest first
_TASK = 64  # characters of a task in lines
_INDENT = 4  # columns
_OURS = f"{InvokeError.__name__}: "  # left out, because the text that follows is enough


def show_calls(console: Console, records: Sequence[CallRecord], zone: dt.tzinfo) -> None:
    """Print attempts to call a model, in the given order.

    Args:
        console: The console to print to.
        records: The attempts.
        zone: The time zone of the times shown.
    """
    offset = formats.one_offset((one.timestamp for one in records), zone)
    show_rows(
        console,
        (_table(records, zone, offset, *cuts) for cuts in _CUTS),
        (_lines(one, zone, offset, console.width - _INDENT) for one in records),
        offset,
    )


def _table(
    records: Sequence[CallRecord], zone: dt.tzinfo, offset: str | None, longest: int, task: int
) -> Table:
    """Make a table with errors cut to `longest` characters, and tasks to `task`."""
    started = "STARTED" if offset is None else f"STARTED ({offset})"
    table = plain_table()
    columns: list[tuple[str, Callable[[CallRecord], Text]]] = [
        ("SESSION", lambda one: Text(visible(one.session_id))),
        (
            started,
            lambda one: Text(formats.moment_below(one.timestamp, zone, offset, seconds=True)),
        ),
        ("", lambda one: sign(one.state)),
        ("CALL", lambda one: Text(_name(one))),
        ("MODEL", lambda one: Text(_model(one))),
        ("TOOK", lambda one: Text(formats.duration(one.elapsed))),
    ]
    if any(one.first_token is not None for one in records):
        columns.append(("FIRST", lambda one: Text(_first_token(one))))
    columns += [
        ("IN", lambda one: Text(_count(one.prompt_tokens))),
        ("OUT", lambda one: Text(_count(one.completion_tokens))),
        ("COST", _cost),
    ]
    if any(one.task for one in records):
        columns.append(("TASK", lambda one: Text(formats.cut(visible(one.task or ""), task))))
    if any(one.error is not None for one in records):
        columns.append(("ERROR", lambda one: _error(one, longest)))
    for name, _ in columns:
        right = name in ("TOOK", "FIRST", "IN", "OUT", "COST")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for one in records:
        table.add_row(*(cell(one) for _, cell in columns))
    return table


def _lines(
    one: CallRecord, zone: dt.tzinfo, offset: str | None, room: int
) -> Iterator[Text | Padding]:
    """Format an attempt as several lines, with `room` columns for an error."""
    yield joined(
        (
            visible(one.session_id),
            Text.assemble(sign(one.state), f" {one.state}"),
            formats.moment_below(one.timestamp, zone, offset, seconds=True),
            formats.duration(one.elapsed) if one.elapsed is not None else "",
        ),
        "  ",
    )
    used = one.prompt_tokens is not None and one.completion_tokens is not None
    details = joined(
        (
            Text(_name(one), "bold"),
            _model(one),
            f"first {_first_token(one)}" if one.first_token is not None else "",
            formats.tokens(one.prompt_tokens or 0, one.completion_tokens or 0) if used else "",
            _cost(one),
        )
    )
    yield Padding(details, (0, 0, 0, _INDENT), expand=False)
    if one.task:
        task = Text(formats.cut(visible(one.task), min(_TASK, room)), "dim")
        yield Padding(task, (0, 0, 0, _INDENT), expand=False)
    if one.error is not None:
        yield Padding(_error(one, room), (0, 0, 0, _INDENT), expand=False)


def _name(one: CallRecord) -> str:
    """Name the attempt as `lllm show` and the page do."""
    return visible(step_name(one.request, one.step, one.attempt, one.state, one.agent))


def _first_token(one: CallRecord) -> str:
    return "" if one.first_token is None else formats.duration(one.first_token)


def _model(one: CallRecord) -> str:
    """The model that answered, or else the requested one."""
    return visible(one.model or one.asked)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _cost(one: CallRecord) -> Text:
    if one.price == "unpriced":
        return Text("unpriced", "yellow")
    return Text("" if one.cost is None else formats.money(one.cost))


def _error(one: CallRecord, longest: int) -> Text:
    """Format an error on one line, status first, in `longest` characters."""
    if one.error is None or one.error_type is None:
        return Text()
    line = formats.error_line(one.error).removeprefix(_OURS)
    status = "" if one.status is None else f"{one.status} "
    return Text(formats.cut(status + line, longest), "red")
