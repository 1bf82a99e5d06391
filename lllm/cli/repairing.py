"""What a repair shows: what was done to which file, what is lost, and what is left to look at."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.exits import Finding
from lllm.cli.shown import counted
from lllm.events.damaged_rows import ReadableRows
from lllm.events.gaps import positions
from lllm.events.repair import Repaired
from lllm.events.sqlite import SQLiteBackend
from lllm.events.sqlite_repair import RepairedDatabase, has_damaged_pages, repair_database
from lllm.events.verify import verify
from lllm.visible import visible

_NOTHING = "There is nothing to repair."


def show(repaired: Repaired) -> None:
    """Print what a repair did. Raises Finding where something is lost, or still damaged."""
    for one in repaired.mended:
        click.echo(
            f"{visible(str(one.path))}: mended, {one.bytes_before:,} bytes before and "
            f"{one.bytes_after:,} now. It is kept as it was in {visible(one.copy.name)}."
        )
    if repaired.begun is not None:
        click.echo(
            f"The end of the log is missing. It goes on in {visible(str(repaired.begun))}: no "
            "position is given again."
        )
    for what in repaired.left:
        click.echo(f"not mended: {visible(what)}")
    for path in repaired.set_aside:
        click.echo(f"{visible(str(path))}: moved aside before; look at it, and move or remove it.")
    lost = sum(one.lost for one in repaired.mended)
    if lost:
        raise Finding(
            f"No event could be made of {counted(lost, 'line')}. They stand in the copy alone; "
            "restore them from a backup if there is one."
        )
    if repaired.left:
        raise Finding("Some damage is left as it is: restore those files from a backup.")
    if not repaired.mended:
        click.echo(_NOTHING)


def repair_rows(log: SQLiteBackend) -> RepairedDatabase:
    """Repair an SQLite file, where a page of it is damaged; the log is closed for that."""
    if isinstance(log.path, Path) and has_damaged_pages(log):
        head = ReadableRows(log).upto if log.damage is None else 0
        log.close()
        return repair_database(log.path, head=head)
    damages = verify(log).damages
    if damages:
        raise Finding(
            f"{log!r} is damaged in {counted(len(damages), 'place')}, and its pages are whole: "
            "events are missing or were changed. Restore a backup. What `lllm verify` does not "
            "name can be read, and exported with `lllm export`."
        )
    click.echo(_NOTHING)
    raise click.exceptions.Exit(0)


def show_rows(repaired: RepairedDatabase) -> None:
    """Print what the repair of an SQLite file did. Raises Finding where something is lost."""
    click.echo(
        f"{visible(str(repaired.path))}: made anew with {counted(repaired.events, 'event')}. It is "
        f"kept as it was in {visible(repaired.copy.name)}."
    )
    for what in repaired.left:
        click.echo(f"not copied: {visible(what)}")
    if repaired.schema_lost:
        click.echo("Tables of your own, if there were any, are in that copy alone.")
    if repaired.lost:
        for first, last in repaired.lost:
            click.echo(f"lost: {positions(first, last)} on no page that can be read.")
        count = sum(last - first + 1 for first, last in repaired.lost)
        raise Finding(
            f"{counted(count, 'event')} can't be read any more; restore a backup if there is one "
            "that has them."
        )
    if repaired.left:
        raise Finding("What could not be copied stands in the copy alone.")
