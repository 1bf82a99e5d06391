"""The command `lllm annotate`: adds a judgement to a session, or to an attempt in it."""

from __future__ import annotations

import click

from lllm.cli.annotation_values import parse_value
from lllm.cli.exit_codes import Finding
from lllm.cli.options import id_argument, open_named, store_option, usage_errors
from lllm.events.errors import LogUnavailable
from lllm.terminal_safe import visible


@click.command()
@store_option
@id_argument
@click.argument("judged", metavar="NAME[=VALUE]")
@click.option("--step", type=click.IntRange(min=1), metavar="N",
              help="Judge the attempt with this number in the session.")  # fmt: skip
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
        try:
            opened.annotate(session_id, name=name, value=value, step=step, comment=comment, by=by)
        except LogUnavailable as error:
            raise Finding(f"The annotation was not written. {error}") from error
        now = opened.load_session_record(session_id).annotations
    click.echo(visible(session_id))
    for said in now:
        click.echo(f"  {annotation_line(said)}")
