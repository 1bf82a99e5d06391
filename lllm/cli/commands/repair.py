"""The command `lllm repair`: mends a damaged log, and keeps a copy of the damaged files."""

from __future__ import annotations

from contextlib import closing

import click

from lllm.cli.options import store_location, store_option


@click.command()
@store_option
def repair(store: str | None) -> None:
    """Mend a damaged log, and keep a copy of the damaged files.

    In a folder of JSON lines, lines that an editor, sed, jq or a file transfer has changed are
    restored, and checked by their digests. An SQLite file is replaced by a new one with the events
    that its pages still hold. A copy of each changed file is kept beside it. Exit code 1 means that
    something is lost, or could not be mended. End the programs that use the store first.
    """
    from lllm.cli.open_store import open_store
    from lllm.cli.render.repair import show
    from lllm.events.backends import open_log
    from lllm.events.integrity.repair import repair as mend

    path = store_location(store)
    with closing(open_log(path, make=False)) as log:
        repaired = mend(log)
    if repaired.mended or repaired.begun:
        with open_store(path) as opened:
            opened.rebuild()  # rows of events that were mended or are lost
    show(repaired)
