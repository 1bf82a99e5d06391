"""Prints the results of `lllm doctor`: problems first, each with advice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lllm.cli.exit_codes import Finding
from lllm.cli.render.console import joined, plain_table, show, stdout
from lllm.cli.render.formats import counted
from lllm.cli.render.json_text import show_json
from lllm.doctor.advice import size
from lllm.doctor.age import KEPT_DAYS
from lllm.doctor.facts import AgeFacts, Checkup, Severity, ViewFacts
from lllm.events.codec import encode
from lllm.terminal_safe import visible

_SIGNS: dict[Severity, tuple[str, str]] = {
    "problem": ("✗", "bold red"),
    "warning": ("!", "yellow"),
    "note": ("·", "cyan"),
    "ok": ("✓", "green"),
}


def show_checkup(checkup: Checkup, *, as_json: bool) -> None:
    """Print the result of examining a store.

    Args:
        checkup: The result of the examination.
        as_json: True to print one JSON object.

    Raises:
        Finding: The store has a problem; raised after everything is printed.
    """
    if as_json:
        show_json(checkup_as_json(checkup))
    else:
        console = stdout()
        for remark in checkup.remarks:
            mark, style = _SIGNS[remark.severity]
            about = Text(f"{visible(remark.about)}:", "bold")
            show(console, joined((Text(mark, style), about, visible(remark.says)), " "))
            if remark.advice:
                show(
                    console,
                    Padding(Text(visible(remark.advice), "dim"), (0, 0, 0, 4), expand=False),
                )
        show(console, "", _table(checkup))
    problems = checkup.count("problem")
    if problems:
        raise Finding(f"The store has {counted(problems, 'problem')}.")


def checkup_as_json(checkup: Checkup) -> str:
    """Make the JSON of the result of examining a store.

    Args:
        checkup: The result of the examination.
    """
    return encode(msgspec.to_builtins(checkup, enc_hook=str)).decode()


def _table(checkup: Checkup) -> Table:
    table = plain_table(header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in checkup_rows(checkup):
        if value:
            table.add_row(name, Text(visible(value)))
    return table


def checkup_rows(checkup: Checkup) -> Iterator[tuple[str, str]]:
    """Yield the facts about a store: the name of each and what it is, which may be "".

    Args:
        checkup: The result of the examination.
    """
    log, rows, database, place = checkup.log, checkup.rows, checkup.database, checkup.place
    yield "store", f"{log.path or log.url or 'in memory'} ({log.kind})"
    yield "format", _listed(log.format, log.durability and f'durability "{log.durability}"')
    yield (
        "size",
        _listed(
            log.bytes is not None and size(log.bytes),
            rows.bytes is not None and f"rows {size(rows.bytes)}",
            database and database.wal_bytes and f"write-ahead log {size(database.wal_bytes)}",
        ),
    )
    count = f"up to position {log.head:,}" if log.events is None else f"{log.events:,}"
    yield (
        "events",
        _listed(
            count,
            log.held and f"{log.held:,} waiting in memory",
            log.gaps and f"{sum(gap.lost for gap in log.gaps):,} lost",
        ),
    )
    states = (f"{number:,} {state}" for state, number in sorted(rows.sessions.items()))
    yield "sessions", _listed(*states, log.erased and f"{log.erased:,} erased") or "none"
    yield "age", _age_text(rows.age)
    for view in rows.views:
        yield f"rows of {visible(view.name)}", _view_text(view)
    if database:
        mode = database.journal_mode and f"journal mode {database.journal_mode}"
        yield "SQLite", _listed(database.version, mode)
    if place:
        yield "disk", _listed(place.file_system, f"{size(place.free_bytes)} free")


def _listed(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _age_text(age: AgeFacts) -> str:
    if age.oldest is None:
        return ""
    days = (time.time_ns() - age.oldest) // (86_400 * 10**9)
    return _listed(
        f"the oldest session is {days:,} days old",
        f"{age.older - age.held:,} older than {KEPT_DAYS} days could go",
        age.held and f"{age.held:,} more are held",
        age.growth is not None and f"the log grows by {size(age.growth)} a day",
    )


def _view_text(view: ViewFacts) -> str:
    if view.built_by is None:
        return "none yet"
    return _listed(
        f"up to position {view.position:,}",
        view.lag and f"{view.lag:,} behind",
        f"version {view.built_by}",
        f"generation {view.generation}",
        view.version is None and "of another program",
    )
