"""The command `lllm annotate`: adds a judgement to a session, or to an attempt in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lllm.cli.annotation_values import parse_value
from lllm.cli.exit_codes import Finding
from lllm.cli.options import id_argument, open_named, store_option, usage_errors
from lllm.events.errors import LogUnavailable
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore


@click.command()
@store_option
@id_argument
@click.argument("judged", metavar="NAME[=VALUE]")
@click.option("--step", type=click.IntRange(min=1), metavar="N",
              help="Judge one attempt to call a model: its number, which `lllm show`, `lllm calls` "
              "and the page write as #N.")  # fmt: skip
@click.option("--comment", metavar="TEXT", help="The reason, in words.")
@click.option("--by", metavar="WHO", help="The name of the person or program that judges.")
def annotate(
    store: str | None,
    prefix: str,
    judged: str,
    step: int | None,
    comment: str | None,
    by: str | None,
) -> None:
    """Judge a session: a score, a label, a comment.

    VALUE is true, false, a number or other JSON; anything else is a text. It replaces the earlier
    value of the same NAME by the same person. NAME alone, without --comment, removes that value.
    """
    from lllm.cli.render.formats import annotation_line

    name, equals, text = judged.partition("=")
    with open_named(store, on_error="raise") as opened, usage_errors():
        session_id = opened.find_id(prefix)
        value = parse_value(text) if equals else None
        if step is not None:
            _check_step(opened, session_id, step)
        try:
            opened.annotate(session_id, name=name, value=value, step=step, comment=comment, by=by)
        except LogUnavailable as error:
            raise Finding(f"The annotation was not written. {error}") from error
        now = opened.load_session_record(session_id).annotations
    click.echo(visible(session_id))
    for said in now:
        click.echo(f"  {annotation_line(said)}")


def _check_step(store: LogStore, session_id: str, step: int) -> None:
    """Refuse a number that no attempt of the session has."""
    own = [
        one.request
        for one in store.list_calls(session_id=session_id, limit=None)
        if one.session_id == session_id
    ]
    if step in own:
        return
    has = f"it has #1 to #{max(own)}" if own else "it has none"
    raise click.UsageError(f"The session {session_id} has no call #{step} of a model; {has}.")
