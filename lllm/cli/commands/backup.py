"""The command `lllm backup`: copies the store while others write to it."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import open_named, store_option
from lllm.terminal_safe import visible


@click.command()
@store_option
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
def backup(store: str | None, destination: Path) -> None:
    """Copy the store to DEST, while others write to it.

    DEST is a path that does not exist yet; it appears only when the copy is complete. A store in
    PostgreSQL becomes an SQLite file, which opens by itself. To restore,
    end the programs that use the store, remove it (for an SQLite file, also the files ending in
    -wal and -shm), and copy the backup to its place.
    """
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress
    from lllm.doctor.advice import size

    with open_named(store) as opened, progress("Backing up") as report:
        made = opened.backup(destination, progress=report)
    click.echo(f"{visible(str(made.path))}: {size(made.size)}, up to position {made.position:,}.")
    if made.archived:
        click.echo(
            f"{counted(made.archived, 'event')} had left the store for archives: keep those files, "
            "too. Their digests are not in the copy, so earlier seals don't fit it, and its lists "
            "and sums may lack these sessions until they are there: `lllm import ARCHIVES --store "
            f"{visible(str(made.path))}`."
        )
