"""The command `lllm show`: shows one session as a tree, with the cost of each step."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from lllm.cli.options import as_point, id_argument, open_named, store_option, zone, zone_options

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore


@click.command("show")
@store_option
@id_argument
@zone_options
@click.option("--at", metavar="WHEN", callback=as_point,
              help="Show it as it was at a position of the log (see `lllm events`), or at a time: "
              "5m (ago) or 2026-01-31T18:00.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the exported session instead.")
@click.option("--html", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Write it to this file, as one web page, instead of printing.",
              )  # fmt: skip
def show(
    store: str | None, prefix: str, at: int | dt.datetime | None, as_json: bool, html: str | None
) -> None:
    """Show one session as a tree, with the cost of each step.

    The tree has agents, attempts to call their models, tools, retries and sub-tactics, each with
    its time, tokens and cost. The traceback of a failed session is shown below it.
    """
    if as_json and html is not None:
        raise click.UsageError("Either --json or --html; not both.")
    with open_named(store) as opened:
        session_id = opened.find_id(prefix)
        if html is not None:
            _write_html(opened, session_id, html, at)
            return
        if as_json:
            from lllm.cli.render.json_text import show_json

            show_json(opened.export_session(session_id, at=at))
            return
        from lllm.cli.render.console import stdout
        from lllm.cli.render.session import details_of, show_session
        from lllm.store.log_store import session_host

        loaded = session_host(opened).reader.load_with_events(session_id, at=at)
        show_session(stdout(), loaded.record, details_of(opened, loaded), zone())


def _write_html(opened: LogStore, session_id: str, path: str, at: int | dt.datetime | None) -> None:
    try:
        from lllm.web.single_file import session_as_html
    except ImportError as error:
        from lllm.cli.commands.web import missing_extra

        raise missing_extra("lllm show --html", error) from error
    from lllm.events.files.own_files import open_new_output

    text = session_as_html(opened, session_id, zone(), at=at)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n",
              opener=open_new_output) as file:  # fmt: skip
        file.write(text)
