"""The command `lllm archive`: moves old sessions to compressed files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    as_moment,
    as_tags,
    json_option,
    open_named,
    store_option,
    zone_options,
)
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from lllm.archive.archive_report import ArchivedSessions


@click.command()
@store_option
@click.option("--before", required=True, metavar="WHEN", callback=as_moment,
              help="Archive sessions that began before this time: 90d (ago) or "
              "2026-01-31.")  # fmt: skip
@click.option("--tag", "tags", multiple=True, metavar="K=V", callback=as_tags,
              help="Only sessions with this tag; can be given several times.")  # fmt: skip
@click.option(
    "--by", metavar="NAME", help="The name of who archives them; default: your user name."
)
@zone_options
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be archived.")
@click.option("--defer-vacuum", is_flag=True,
              help="Don't shrink the file of the store now; `lllm vacuum` does it "
              "later.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.argument("folder", metavar="DEST", type=click.Path(path_type=Path))
@json_option
def archive(
    store: str | None,
    before: dt.datetime,
    tags: dict[str, str],
    by: str | None,
    dry_run: bool,
    defer_vacuum: bool,
    yes: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Move old sessions to a compressed file in DEST.

    The events of the sessions and of their sub-tactics move from the store to the file, with later
    tags and comments. Digests, times, tags and costs stay in the store, so seals and sums do not
    change. `--store DEST` reads the files in every command that reads, and `lllm import DEST`
    brings sessions back. Running sessions, and those with a legal hold, stay. Exit code 1 means
    that no session was old enough.
    """
    with open_named(store, on_error="raise") as opened:
        found = opened.archive(before=before, to=folder, tags=tags, by=by, dry_run=True)
        if not found.sessions:
            show_archived(found, as_json)
            raise Finding("No session that could be archived began before that.")
        if not dry_run:
            if not yes:
                _ask(found, folder)
            found = opened.archive(
                before=before, to=folder, tags=tags, by=by, defer_vacuum=defer_vacuum
            )
    show_archived(found, as_json)


def _ask(found: ArchivedSessions, folder: Path) -> None:
    from lllm.cli.render.formats import counted, first_ids

    count = counted(len(found.sessions), "session")
    click.echo(f"{count}: {first_ids(found.sessions)}", err=True)
    click.confirm(f"Move them to {visible(str(folder))}?", abort=True, err=True)


def show_archived(report: ArchivedSessions, as_json: bool) -> None:
    """Print what was archived, and what was left.

    Args:
        report: What was done, or would be.
        as_json: True to print one JSON object.
    """
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(report).decode())
        return
    from lllm.cli.render.formats import counted, first_ids

    sessions = counted(len(report.sessions), "session")
    if report.dry_run:
        click.echo(f"Would be archived: {sessions}.")
    else:
        click.echo(
            f"Archived: {sessions}, {counted(report.events, 'event')}; payloads of "
            f"{report.payload_bytes:,} bytes in files of {report.bytes:,}."
        )
    for file in report.files:
        click.echo(f"  {visible(file)}")
    for what, ids in (
        ("Left: a legal hold keeps", report.held),
        ("Left: still running, or a part of another", report.running),
        ("Left: a replay or fork of it runs", report.in_use),
        ("Left: damaged (see `lllm verify`)", report.damaged),
    ):
        if ids:
            click.echo(f"{what}: {first_ids(ids)}")
    if report.pending:
        click.echo("The store keeps its size until `lllm vacuum` has run.")
