"""The command `lllm retain`: erases sessions after a number of days, for a nightly job."""

from __future__ import annotations

import click

from lllm.cli.options import json_option, open_named, store_option, zone, zone_options


@click.command()
@store_option
@zone_options
@click.option("--days", required=True, type=click.IntRange(min=1), metavar="N",
              help="How long sessions are kept, from their start.")  # fmt: skip
@click.option(
    "--yes",
    is_flag=True,
    help="Erase them. Without it, the command only prints what it would erase.",
)
@click.option(
    "--reason",
    metavar="TEXT",
    help=("The reason; default: the number of days. It stays in the log."),
)
@click.option("--by", metavar="NAME", help="The name of who erases them; default: your user name.")
@click.option("--defer-vacuum", is_flag=True,
              help="Don't rewrite the files now; `lllm vacuum` does it later.")  # fmt: skip
@json_option
def retain(
    store: str | None,
    days: int,
    yes: bool,
    reason: str | None,
    by: str | None,
    defer_vacuum: bool,
    as_json: bool,
) -> None:
    """Erase sessions that are older than a number of days.

    Without --yes, nothing is erased: the command only prints what it would erase. Sessions with a
    legal hold are never erased.
    """
    from lllm.cli.commands.erase import show_erasure

    with open_named(store, on_error="raise") as opened:
        found = opened.retain(
            days=days, dry_run=not yes, reason=reason, by=by, defer_vacuum=defer_vacuum
        )
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(found).decode())
        return
    before = found.before.astimezone(zone()).isoformat(sep=" ", timespec="minutes")
    erased = "erased now" if found.erasure else "not erased: this was a dry run"
    click.echo(
        f"Older than {days} days (before {before}): {len(found.older):,} sessions"
        + (f", {erased}" if found.older else "")
        + f"; {len(found.held):,} more are held, {len(found.running):,} still run."
    )
    if found.erasure is not None:
        show_erasure(found.erasure)
