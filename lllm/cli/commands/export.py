"""The command `lllm export`: writes a session as text, lists as a database, or Parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from lllm.cli.condition_options import SessionFilters, any_given, with_session_filters
from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option, usage_errors
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore


@click.command()
@store_option
@click.argument("prefix", metavar="[ID]", required=False)
@click.option("--format", "format_", type=click.Choice(("json", "jsonl")),
              help="json for the loaded session, jsonl for its "
              "events.  [default: json]")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Write to this file instead of printing.")  # fmt: skip
@click.option("--lists", metavar="DB",
              help="Write all sessions, tags, calls and costs to this SQLite database instead.",
              )  # fmt: skip
@click.option("--parquet", metavar="DIR",
              help="Write sessions, calls, messages, tools and costs to Parquet files instead.",
              )  # fmt: skip
@click.option("--dataset", is_flag=True,
              help="Write task, delivery, scores and tags of all selected sessions instead, as "
              "JSONL.",
              )  # fmt: skip
@with_session_filters
@click.option("--replays", is_flag=True, help="Write replays, too.")
def export(
    store: str | None,
    prefix: str | None,
    format_: str | None,
    output: str | None,
    lists: str | None,
    parquet: str | None,
    dataset: bool,
    replays: bool,
    **filters: Unpack[SessionFilters],
) -> None:
    """Write a session, all lists, or a data set to a file.

    --parquet makes a folder of typed files for analysts, by month; a second run writes the months
    that have changed. --dataset writes an object for each session that the filters select, newest
    first, for evaluations. --lists makes plain tables in a database of your own, new or not; a
    second run updates them.
    """
    if [prefix is None, lists is None, parquet is None, not dataset].count(False) != 1:
        raise click.UsageError(
            "Export one session by its ID, all --lists to a database, --parquet files, or sessions "
            "as a --dataset."
        )
    if any_given(filters) and not dataset and parquet is None:
        raise click.UsageError("Filters are of a --dataset or of --parquet files.")
    if replays and parquet is None:
        raise click.UsageError("--replays is of --parquet files.")
    if dataset and format_:
        raise click.UsageError("--format is of one session; a --dataset is JSONL.")
    if (lists or parquet) is not None and (format_ or output):
        kind = "--lists" if parquet is None else "--parquet"
        raise click.UsageError(f"--format and --output are for one session, not for {kind}.")
    with open_named(store) as opened:
        if lists is not None:
            _write_lists(opened, lists)
            return
        if parquet is not None:
            _write_parquet(opened, parquet, replays, filters)
            return
        if dataset:
            text = _dataset(opened, filters)
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


def _write_lists(store: LogStore, path: str) -> None:
    from lllm.cli.render.formats import counted

    made = store.export_lists(path)
    rows = (
        (made.sessions, "session"), (made.tags, "tag"), (made.calls, "call"), (made.costs, "cost"),
    )  # fmt: skip
    counts = ", ".join(counted(count, name) for count, name in rows)
    click.echo(f"{visible(str(made.path))}: {counts}.")


def _write_parquet(store: LogStore, path: str, replays: bool, filters: SessionFilters) -> None:
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress

    with usage_errors(), progress("Exporting") as report:
        made = store.export_parquet(path, progress=report, replays=replays, **filters)
    written = counted(len(made.written), "month")
    rows = ", ".join(counted(count, name[:-1]) for name, count in made.rows.items())
    others = "".join(
        f", {len(months)} {what}"
        for months, what in ((made.unchanged, "unchanged"), (made.removed, "removed"))
        if months
    )
    about = f" ({rows})" if made.written else ""
    click.echo(f"{visible(str(made.path))}: {written} written{about}{others}.")


def _dataset(store: LogStore, filters: SessionFilters) -> str:
    from lllm.events.codec import encode

    with usage_errors():
        text = "\n".join(encode(one).decode() for one in store.export_dataset(**filters))
    if not text:
        raise Finding("No session fits.")
    return text
