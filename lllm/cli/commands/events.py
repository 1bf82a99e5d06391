"""The command `lllm events`: prints the events of one session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lllm.cli.options import id_argument, open_named, store_option, zone, zone_options

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore


@click.command()
@store_option
@id_argument
@zone_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the events as JSON lines, as they were written."
)
def events(store: str | None, prefix: str, as_json: bool) -> None:
    """Print the events of one session.

    Each line has the position in the log, the number in the session, the time of day, the type, and
    a short form of the payload. Later events about the session, such as tags, come last. ID may
    also be that of an error kept by save_error.
    """
    from lllm.cli.render.console import stdout
    from lllm.cli.render.events import EventLines
    from lllm.cli.render.json_text import show_json

    with open_named(store) as opened:
        found = opened.events(_session_or_error(opened, prefix))
        if as_json:
            from lllm.events.exported_lines import as_jsonl

            show_json(as_jsonl(list(found)))
            return
        lines = EventLines(stdout(), zone(), with_session=False)
        for event in found:
            lines.show(event)


def _session_or_error(store: LogStore, prefix: str) -> str:
    """Find the whole id of a session, or of an error that `save_error` kept."""
    from lllm.events.errors import SessionNotFound

    if prefix.startswith("error-"):
        if not any(True for _ in store.log.read(stream=prefix)):
            raise SessionNotFound(f"No error {prefix!r} in {store.backend!r}.")
        return prefix
    return store.find_id(prefix)
