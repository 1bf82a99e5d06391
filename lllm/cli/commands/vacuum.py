"""The command `lllm vacuum`: writes SQLite files anew, without copies of what was erased."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option


@click.command()
@store_option
def vacuum(store: str | None) -> None:
    """Write files anew, without copies of what was erased.

    Other writers wait meanwhile, and as much free space is needed as the store takes. Exit code 1
    says that a reader kept an older state of a file in use, so that it has to be done again.
    """
    with open_named(store, on_error="raise") as opened:
        done = opened.vacuum()
    if not done:
        raise Finding("A reader kept an older state of the file in use; do it again.")
    click.echo("Done: no copy of what was erased is left in the store's files.")
