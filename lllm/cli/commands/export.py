"""The command `lllm export`: writes one session as text, or all lists as a database."""

from __future__ import annotations

from typing import Unpack

import click

from lllm.cli.condition_options import SessionFilters, any_given, with_session_filters
from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option, usage_errors
from lllm.terminal_safe import visible


@click.command()
@store_option
@click.argument("prefix", metavar="[ID]", required=False)
@click.option("--format", "format_", type=click.Choice(("json", "jsonl")),
              help="The loaded session, or its events.  [default: json]")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Write to this file instead of printing.")  # fmt: skip
@click.option("--lists", metavar="DB",
              help="Write all sessions, tags, calls and costs to this SQLite database instead.",
              )  # fmt: skip
@click.option("--dataset", is_flag=True,
              help="Write task, delivery, scores and tags of all sessions that fit, as JSONL.",
              )  # fmt: skip
@with_session_filters
def export(
    store: str | None,
    prefix: str | None,
    format_: str | None,
    output: str | None,
    lists: str | None,
    dataset: bool,
    **filters: Unpack[SessionFilters],
) -> None:
    """Write a session, all lists, or a data set to a file.

    --dataset writes an object for each session that the filters select, newest first, for
    evaluations. --lists makes plain tables in a database of your own, new or not; a second run
    updates them.
    """
    if [prefix is None, lists is None, not dataset].count(False) != 1:
        raise click.UsageError(
            "Export one session by its ID, all --lists to a database, or sessions as a --dataset."
        )
    if not dataset and any_given(filters):
        raise click.UsageError("Filters are of a --dataset.")
    if dataset and format_:
        raise click.UsageError("--format is of one session; a --dataset is JSONL.")
    if lists is not None and (format_ or output):
        raise click.UsageError("--format and --output are for one session, not for --lists.")
    with open_named(store) as opened:
        if lists is not None:
            from lllm.cli.render.formats import counted

            made = opened.export_lists(lists)
            rows = (
                (made.sessions, "session"), (made.tags, "tag"), (made.calls, "call"),
                (made.costs, "cost"),
            )  # fmt: skip
            counts = ", ".join(counted(count, name) for count, name in rows)
            click.echo(f"{visible(str(made.path))}: {counts}.")
            return
        if dataset:
            from lllm.events.codec import encode

            with usage_errors():
                found = opened.export_dataset(**filters)
                text = "\n".join(encode(one).decode() for one in found)
            if not text:
                raise Finding("No session fits.")
        else:
            text = opened.export_session(opened.find_id(prefix or ""), format_ or "json")
    text = text.rstrip("\n") + "\n"
    if output is None:
        from lllm.cli.render.json_text import show_json

        show_json(text)
    else:
        from lllm.events.files.own_files import open_new_output

        with open(output, "w", encoding="utf-8", newline="\n", opener=open_new_output) as file:
            file.write(text)
