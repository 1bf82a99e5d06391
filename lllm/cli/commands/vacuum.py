"""The command `lllm vacuum`: rewrites SQLite files, without copies of erased content."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option


@click.command()
@store_option
def vacuum(store: str | None) -> None:
    """Rewrite files, without copies of erased content.

    Other writers wait during this, and the disk needs as much free space as the store takes. The
    exit code is 1 if a reader still used an older state of a file; run the command again then.
    """
    with open_named(store, on_error="raise") as opened:
        done = opened.vacuum()
    if not done:
        raise Finding("A reader kept an older state of the file in use; do it again.")
    click.echo("Done: no copy of what was erased is left in the store's files.")
