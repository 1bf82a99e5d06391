"""The command `lllm tag`: adds, changes or removes tags of a session."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import as_tags, id_argument, open_named, store_option
from lllm.events.errors import LogUnavailable
from lllm.terminal_safe import visible


@click.command()
@store_option
@id_argument
@click.argument("tags", nargs=-1, metavar="K=V...", callback=as_tags)
@click.option(
    "--remove", multiple=True, metavar="K", help="Remove this tag; can be given several times."
)
def tag(store: str | None, prefix: str, tags: dict[str, str], remove: tuple[str, ...]) -> None:
    """Add, change or remove tags of a session.

    The session's own events stay unchanged; the tags are recorded as a new event.
    """
    if not tags and not remove:
        raise click.UsageError("Which tags? Give some as KEY=VALUE, or --remove KEY.")
    from lllm.cli.render.formats import tag_list

    # an event held in memory would be lost with this process
    with open_named(store, on_error="raise") as opened:
        session_id = opened.find_id(prefix)
        try:
            opened.tag(session_id, tags, remove=remove)
        except LogUnavailable as error:
            raise Finding(f"The tags were not written. {error}") from error
        now = opened.load_session_record(session_id).tags
    click.echo(f"{visible(session_id)}  {tag_list(now) or 'no tags'}")
