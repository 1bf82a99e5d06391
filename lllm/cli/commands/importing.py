"""The command `lllm import`: imports sessions from exported files and other stores."""

from __future__ import annotations

import click
from msgspec.structs import asdict

from lllm.cli.exit_codes import Finding
from lllm.cli.options import json_option, store_location, store_option
from lllm.terminal_safe import visible

_LINES = 20  # refused items that are printed; --json has all


@click.command("import")
@store_option
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
@json_option
def import_(store: str | None, sources: tuple[str, ...], as_json: bool) -> None:
    """Append sessions that were recorded elsewhere.

    FILE is the output of `lllm export ID --format jsonl`, which may hold several exports, or the
    path or URL of another store, which is only read. Events that are here already are not stored
    twice, so you can merge the logs of several machines. Every event is checked. A session with an
    event that was changed is not imported; exit code 1 then says so.
    """
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress
    from lllm.events.errors import ImportRefused
    from lllm.importing.merge import ImportedSessions
    from lllm.store.log_store import LogStore

    refused: tuple[str, ...] = ()
    # Events held in memory would be lost with this process.
    with (
        LogStore.open(store_location(store), on_error="raise") as opened,
        progress("Importing") as report,
    ):
        try:
            imported = opened.import_sessions(*sources, progress=report)
        except ImportRefused as error:
            imported = ImportedSessions(error.sessions, error.events, error.known)
            refused = error.refused
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(asdict(imported) | {"refused": refused}).decode())
    else:
        new = f"{counted(imported.sessions, 'session')}, {counted(imported.events, 'event')}"
        here = f"; {counted(imported.known, 'session')} already here" if imported.known else ""
        click.echo(f"Imported: {new}{here}.")
    if not refused:
        return
    *others, last = refused[:_LINES]
    for why in others:
        click.echo(f"lllm: {visible(why)}", err=True)
    left = len(refused) - _LINES
    more = f" And {left:,} more, which --json has." if left > 0 else ""
    raise Finding(f"{last}{more}")
