"""The command `lllm doctor`: checks the health of the store, and says what to do."""

from __future__ import annotations

import datetime as dt

import click

from lllm.cli.options import json_option, open_named, store_option, zone, zone_options


@click.command()
@store_option
@zone_options
@click.option(
    "--thorough", is_flag=True, help="Also read the whole log, and check the pages of the database."
)
@json_option
def doctor(store: str | None, thorough: bool, as_json: bool) -> None:
    """Check the health of the store, and say what to do.

    It checks the size, running and interrupted sessions, lost events, rows that are behind, and the
    free space on the disk. Problems come first; exit code 1 means that there is one. To check that
    no event was changed, use `lllm verify`.
    """
    from lllm.cli.render.doctor import show_checkup
    from lllm.doctor.examine import examine

    with open_named(store) as opened:
        found = examine(opened, thorough=thorough, tz=zone(dt.UTC if as_json else None))
    show_checkup(found, as_json=as_json)
