"""Prints the result of a repair: changed files, lost events, and what to check by hand."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.render.formats import counted
from lllm.events.backends.sqlite.unreadable_positions import positions
from lllm.events.integrity.repair import Mended, Repaired
from lllm.terminal_safe import visible

_LINES = 50  # damaged places that are listed; there may be as many as there are events


def show(repaired: Repaired) -> None:
    """Print the result of a repair.

    Args:
        repaired: The result of the repair.

    Raises:
        Finding: Something is lost or still damaged; raised after everything is printed.
    """
    for one in repaired.mended:
        _show_mended(one)
    if repaired.begun is not None:
        click.echo(
            f"The end of the log is missing. It continues in {visible(str(repaired.begun))}: no "
            "position is used again."
        )
    for what in repaired.left[:_LINES]:
        click.echo(f"not mended: {visible(what)}")
    if len(repaired.left) > _LINES:
        click.echo(f"... and {len(repaired.left) - _LINES:,} more (`lllm verify --json` has all)")
    for what in repaired.not_copied:
        click.echo(f"not copied: {visible(what)}")
    if repaired.schema_lost:
        click.echo("Tables of your own, if there were any, are only in that copy.")
    for path in repaired.set_aside:
        click.echo(f"{visible(str(path))}: moved aside before; look at it, and move or remove it.")
    _raise_losses(repaired)
    if not repaired.mended:
        click.echo("There is nothing to repair.")


def _show_mended(one: Mended) -> None:
    kept = f"It is kept as it was in {visible(one.copy.name)}."
    if one.events is not None:
        made = f"made anew with {counted(one.events, 'event')}"
    else:
        made = f"mended, {one.bytes_before:,} bytes before and {one.bytes_after:,} now"
    click.echo(f"{visible(str(one.path))}: {made}. {kept}")
    for first, last in one.lost_positions:
        click.echo(f"lost: {positions(first, last)} on no page that can be read.")


def _raise_losses(repaired: Repaired) -> None:
    lines = sum(one.lost for one in repaired.mended)
    events = sum(last - first + 1 for one in repaired.mended for first, last in one.lost_positions)
    if lines:
        raise Finding(
            f"{counted(lines, 'line')} could not be restored. They are only in the copy; "
            "restore them from a backup if there is one."
        )
    if events:
        raise Finding(
            f"{counted(events, 'event')} can't be read any more; restore a backup if there is one "
            "that has them."
        )
    if repaired.not_copied:
        raise Finding("What could not be copied is only in the copy of the damaged files.")
    if repaired.left:
        raise Finding(
            f"{counted(len(repaired.left), 'damaged place')} can't be mended: events are missing "
            "or were changed. Restore a backup. Everything that `lllm verify` does not name can be "
            "read, and exported with `lllm export`."
        )
