"""The command `lllm vacuum`: rewrites files or tables, without copies of erased content."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option
from lllm.events.backend import RewritesTables
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@store_option
def vacuum(store: str | None) -> None:
    """Rewrite the store's files, without copies of erased content.

    Other writers wait during this, and the disk needs as much free space as the store takes. In
    PostgreSQL, it says which tables it locks, and how large they are. The exit code is 1 if a
    reader still used an older state of a file; run the command again then.
    """
    began = time.monotonic()
    with open_named(store, on_error="raise") as opened:
        locks = isinstance(opened.backend, RewritesTables)
        if isinstance(opened.backend, RewritesTables):
            _show_locks(opened.backend.tables_to_rewrite())
        done = opened.vacuum()
    if not done:
        raise Finding("A reader kept an older state of the file or of a table in use; do it again.")
    click.echo("Done: no copy of what was erased is left in the store's files.")
    if locks:
        click.echo(f"It took {time.monotonic() - began:.1f} s.")


def _show_locks(tables: Sequence[tuple[str, int]]) -> None:
    for name, size in tables:
        click.echo(
            f"Rewriting {visible(name)}, {size / 1e6:,.1f} MB. It is locked until that is done: "
            "who reads or writes it waits."
        )
    click.echo(
        "Rewriting the rows of lists, tags and costs, and payloads that are kept as jsonb, one "
        "table after the other, likewise."
    )
