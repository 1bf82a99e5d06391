"""The commands `lllm hold` and `lllm release`: legal holds, which prevent every erasure."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import id_argument, open_named, store_option, zone, zone_options
from lllm.events.errors import StoreError
from lllm.terminal_safe import visible

_BY = click.option("--by", metavar="NAME", help="The name of who does it; default: your user name.")


@click.command()
@store_option
@id_argument
@zone_options
@click.option(
    "--reason",
    metavar="TEXT",
    help=("The reason, for example the name of a case; it stays in the log."),
)
@_BY
@click.option("--list", "listing", is_flag=True, help="List the holds on the session instead.")
def hold(store: str | None, prefix: str, reason: str | None, by: str | None, listing: bool) -> None:
    """Keep a session from being erased, by a legal hold.

    Nothing of it can be erased until `lllm release` lifts the hold. A hold on a child
    session protects the whole tree.
    """
    if listing == bool(reason):
        raise click.UsageError("Either --reason TEXT, or --list.")
    with open_named(store, on_error="raise") as opened:
        session_id = opened.find_id(prefix)
        if reason:
            click.echo(visible(opened.hold(session_id, reason=reason, by=by)))
            return
        found = opened.holds(session_id)
    if not found:
        raise Finding(f"No legal hold keeps session {session_id}.")
    for one in found:
        when = one.placed.astimezone(zone()).isoformat(sep=" ", timespec="minutes")
        click.echo(f"{visible(one.hold)}  {when}  {visible(one.by)}: {visible(one.reason)}")


@click.command()
@store_option
@id_argument
@click.option("--reason", required=True, metavar="TEXT", help="The reason; it stays in the log.")
@_BY
@click.option(
    "--hold",
    "one",
    metavar="HOLD",
    help=("Release only this hold, as `lllm hold --list` shows it."),
)
def release(store: str | None, prefix: str, reason: str, by: str | None, one: str | None) -> None:
    """Lift the legal holds on a session."""
    with open_named(store, on_error="raise") as opened:
        session_id = opened.find_id(prefix)
        try:
            lifted = opened.release(session_id, reason=reason, by=by, hold=one)
        except StoreError as error:
            raise Finding(str(error)) from error
    click.echo(f"{visible(session_id)}: {lifted} lifted.")
