"""What a repair shows: what was done to which file, what is lost, and what is left to look at."""

from __future__ import annotations

import click

from lllm.cli.exits import Finding
from lllm.cli.shown import counted
from lllm.events.log import LogBackend
from lllm.events.repair import Repaired
from lllm.visible import visible


def show(repaired: Repaired) -> None:
    """Print what a repair did. Raises Finding where something is lost, or still damaged."""
    for one in repaired.mended:
        click.echo(
            f"{visible(str(one.path))}: mended, {one.bytes_before:,} bytes before and "
            f"{one.bytes_after:,} now. It is kept as it was in {visible(one.copy.name)}."
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
        click.echo("There is nothing to repair.")


def explain(log: LogBackend) -> None:
    """Say what to do about a log that is no folder of files. Raises Finding where it is
    damaged."""
    from lllm.events.verify import verify

    damages = verify(log).damages
    if damages:
        raise Finding(
            f"{log!r} is damaged in {counted(len(damages), 'place')}, and lllm does not change the "
            "pages of an SQLite file: copy it with its -wal and -shm, and restore a backup. What "
            "`lllm verify` does not name can be read, and exported with `lllm export`."
        )
    click.echo("There is nothing to repair.")
