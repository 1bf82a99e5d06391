"""The command `lllm erase`: erases the content of sessions for good."""

from __future__ import annotations

import datetime as dt
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
from lllm.events.backend import RewritesTables
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from lllm.store.erasure_report import Erasure


@click.command()
@store_option
@click.argument("prefixes", nargs=-1, metavar="[SESSION]...")
@click.option("--reason", required=True, metavar="TEXT",
              help=(
                  "The reason. It stays in the log, so don't write what may have to be erased."
              ))  # fmt: skip
@click.option(
    "--by",
    metavar="NAME",
    help=("The name of who erases them. It stays in the log. Default: your user name."),
)
@click.option("--tag", "tags", multiple=True, metavar="K=V", callback=as_tags,
              help="Erase all sessions with this tag; can be given several times.")  # fmt: skip
@click.option("--before", metavar="WHEN", callback=as_moment,
              help="Erase all sessions that began before this time: 90d (ago) or "
              "2026-01-31.")  # fmt: skip
@zone_options
@click.option("--keep-derived", is_flag=True,
              help="Keep replays and forks, though they may have the same texts, and list "
              "them.")  # fmt: skip
@click.option("--defer-vacuum", is_flag=True,
              help="Don't rewrite the files now; `lllm vacuum` does it later.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@json_option
def erase(
    store: str | None,
    prefixes: tuple[str, ...],
    reason: str,
    by: str | None,
    tags: dict[str, str],
    before: dt.datetime | None,
    keep_derived: bool,
    defer_vacuum: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the content of sessions for good.

    It removes the texts, tags and all other content of the sessions, of their child sessions, and
    of their replays and forks. Times, costs, digests, the reason and your name stay. The exit code
    is 1 if a session can't be erased: it does not exist, it runs, a legal hold protects it, or it
    is a child session.
    """
    if bool(prefixes) == bool(tags or before):
        raise click.UsageError("Which? Either ids of sessions, or --tag and --before.")
    with open_named(store, on_error="raise") as opened:
        if prefixes:
            ids = [opened.find_id(prefix) for prefix in prefixes]
        else:
            found = opened.list_sessions(tags=tags, before=before, replays=True)
            ids = [one.session_id for one in found if one.erased is None]
            if not ids:
                raise Finding("No session fits that is not erased yet.")
        if not yes:
            _ask(ids, reason)
        if prefixes:
            reports = [
                opened.erase_session(
                    one, reason=reason, by=by, keep_derived=keep_derived, defer_vacuum=True
                )
                for one in ids
            ]
        else:
            reports = [
                opened.erase(
                    reason=reason, tags=tags, before=before, by=by, keep_derived=keep_derived,
                    defer_vacuum=True,
                )
            ]  # fmt: skip
        report = _together(reports)
        later = defer_vacuum or isinstance(opened.backend, RewritesTables)
        report.pending = report.pending and (later or not opened.vacuum())
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(report).decode())
        return
    show_erasure(report)


def _ask(ids: list[str], reason: str) -> None:
    from lllm.cli.render.formats import counted, first_ids

    click.echo(f"{counted(len(ids), 'session')}: {first_ids(ids)}", err=True)
    click.echo(f"This reason stays in the log for good: {visible(reason)}", err=True)
    click.confirm("Erase their content for good?", abort=True, err=True)


def _together(reports: list[Erasure]) -> Erasure:
    first, *others = reports
    for one in others:
        first.sessions += one.sessions
        first.events += one.events
        first.already += one.already
        first.kept += one.kept
        first.pending = first.pending or one.pending
    first.kept = [one for one in first.kept if one not in first.sessions]
    return first


def show_erasure(report: Erasure) -> None:
    """Print what was erased, what was skipped, and where lllm can't erase.

    Args:
        report: The result of the erasure.
    """
    from lllm.cli.render.formats import counted, first_ids

    sessions = counted(len(report.sessions), "session")
    click.echo(f"Erased: {sessions}, {counted(report.events, 'payload')}.")
    for what, ids in (
        ("Erased before", report.already),
        ("Kept, and may hold the same texts", report.kept),
        ("Left: a legal hold keeps", report.held),
        ("Left: still running, or a part of another", report.not_ended),
    ):
        if ids:
            click.echo(f"{what}: {first_ids(ids)}")
    if report.pending:
        click.echo("Pending: copies may stay in gaps of files until `lllm vacuum` has run.")
    click.echo("lllm can't reach:")
    for one in report.out_of_reach:
        click.echo(f"  - {visible(one)}")
