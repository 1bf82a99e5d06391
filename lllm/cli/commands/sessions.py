"""The commands `lllm ls`, `show`, `events`, `tail` and `export`, which show sessions."""

from __future__ import annotations

import datetime as dt
from typing import Literal, Unpack

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    Filters,
    as_point,
    cursor_option,
    id_argument,
    json_option,
    limit_option,
    open_named,
    print_next_cursor,
    store_option,
    usage_errors,
    with_filters,
    zone,
    zone_options,
)
from lllm.terminal_safe import visible


@click.command("ls")
@store_option
@with_filters
@limit_option
@cursor_option
@click.option("--sort", type=click.Choice(("started", "cost")), default="started",
              show_default=True, help="Newest first, or most expensive first.")  # fmt: skip
@click.option("--replays", is_flag=True, help="List replays, too.")
@json_option
def ls(
    store: str | None,
    limit: int,
    cursor: str | None,
    sort: Literal["started", "cost"],
    replays: bool,
    as_json: bool,
    **filters: Unpack[Filters],
) -> None:
    """List sessions, newest first.

    Listed are the calls at the top; with --tactic, the calls of that tactic at any depth. --json
    prints one array with an object for each session.
    """
    with open_named(store) as opened, usage_errors():
        found = opened.list_sessions(
            limit=limit + 1 if limit else None,
            cursor=cursor,
            sort=sort,
            replays=replays,
            **filters,
        )
        page = found[:limit] if limit else found
        if as_json:
            from lllm.cli.render.json_text import array, show_json

            show_json(array(page))
        if not page:
            raise Finding("No session fits." if any(filters.values()) or cursor
                          else "The store has no sessions yet.")  # fmt: skip
    if as_json:
        return
    from lllm.cli.render.console import stdout
    from lllm.cli.render.session_list import show_list

    show_list(stdout(), page, zone())
    if len(found) > len(page):
        print_next_cursor(page[-1].cursor)


@click.command("show")
@store_option
@id_argument
@zone_options
@click.option("--at", metavar="WHEN", callback=as_point,
              help="As it was then: at a position of the log, as `lllm events` shows them, or at a "
              "time, as 5m ago or 2026-01-31T18:00.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the exported session instead.")
def show_(store: str | None, prefix: str, at: int | dt.datetime | None, as_json: bool) -> None:
    """Show one session as a tree, with what each step cost.

    Agents, attempts to call their models, tools, retries and sub-tactics, each with its time,
    tokens and cost; the traceback of a failed session stands below.
    """
    with open_named(store) as opened:
        session_id = opened.find_id(prefix)
        if as_json:
            from lllm.cli.render.json_text import show_json

            show_json(opened.export_session(session_id, at=at))
            return
        from lllm.cli.render.console import stdout
        from lllm.cli.render.session import read_details, show_session

        record = opened.load_session_record(session_id, at=at)
        show_session(stdout(), record, read_details(opened, record.session, at=at), zone())


@click.command()
@store_option
@id_argument
@zone_options
@click.option("--json", "as_json", is_flag=True, help="Print them as they were written, JSONL.")
def events(store: str | None, prefix: str, as_json: bool) -> None:
    """Print the events of one session.

    On each line: position in the log, number in the session, time of day, type, and the payload in
    short. What was said of the session later, like tags, comes last. ID may also be that of an
    error kept by save_error.
    """
    from lllm.cli.render.console import stdout
    from lllm.cli.render.events import EventLines
    from lllm.cli.render.json_text import show_json
    from lllm.cli.tail import session_or_error

    with open_named(store) as opened:
        found = opened.events(session_or_error(opened, prefix))
        if as_json:
            from lllm.store.session_export import as_jsonl

            show_json(as_jsonl(list(found)))
            return
        lines = EventLines(stdout(), zone(), with_session=False)
        for event in found:
            lines.show(event)


@click.command()
@store_option
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", default=10,
              show_default=True, help="Begin with the last N events.")  # fmt: skip
@click.option("--session", "prefix", metavar="ID", help="Only this session and those below it.")
@zone_options
@click.option("--json", "as_json", is_flag=True, help="Print them as they are written, JSONL.")
def tail(store: str | None, lines: int, prefix: str | None, as_json: bool) -> None:
    """Print events as they are written, by any process. Ctrl-C ends it."""
    from lllm.cli.render.console import stdout
    from lllm.cli.render.events import EventLines
    from lllm.cli.render.json_text import show_json
    from lllm.cli.tail import FollowedSessions, follow
    from lllm.store.session_export import as_jsonl

    with open_named(store) as opened:
        family = None if prefix is None else FollowedSessions(opened, opened.find_id(prefix))
        printed = EventLines(stdout(), zone(), with_session=True)
        try:
            for event in follow(opened, lines, family):
                if as_json:
                    show_json(as_jsonl([event]))
                else:
                    printed.show(event)
        except KeyboardInterrupt:
            return


@click.command()
@store_option
@click.argument("prefix", metavar="[ID]", required=False)
@click.option("--format", "format_", type=click.Choice(("json", "jsonl")),
              help="The loaded session, or its events.  [default: json]")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Where to write it, instead of printing it.")  # fmt: skip
@click.option("--lists", metavar="DB",
              help="Write all sessions, tags, calls and costs to this SQLite database instead.",
              )  # fmt: skip
def export(
    store: str | None,
    prefix: str | None,
    format_: str | None,
    output: str | None,
    lists: str | None,
) -> None:
    """Write one session as text, or all lists as a database.

    --lists makes plain tables in a database of your own, new or not; a second run updates them.
    """
    if (prefix is None) == (lists is None):
        raise click.UsageError("Export one session by its ID, or all --lists to a database.")
    if lists is not None and (format_ or output):
        raise click.UsageError("--format and --output are of one session, not of --lists.")
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
        text = opened.export_session(opened.find_id(prefix or ""), format_ or "json")
    text = text.rstrip("\n") + "\n"
    if output is None:
        from lllm.cli.render.json_text import show_json

        show_json(text)
    else:
        from lllm.events.files.own_files import open_new_output

        with open(output, "w", encoding="utf-8", newline="\n", opener=open_new_output) as file:
            file.write(text)
