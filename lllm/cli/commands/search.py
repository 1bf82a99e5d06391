"""The command `lllm search`: finds messages by their words."""

from __future__ import annotations

from typing import Unpack

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    Filters,
    cursor_option,
    json_option,
    limit_option,
    open_named,
    print_next_cursor,
    store_option,
    usage_errors,
    with_filters,
    zone,
)

_ROLES = ("task", "tag", "system", "user", "assistant", "tool", "error", "note")


@click.command()
@store_option
@click.argument("query", metavar="QUERY...", nargs=-1, required=True)
@click.option("--role", "roles", type=click.Choice(_ROLES), multiple=True,
              help="Only messages of this role, or tasks, tags, errors, notes; can be given "
              "several times.")  # fmt: skip
@click.option("--session", "prefix", metavar="ID", help="Only this session and those below it.")
@with_filters
@click.option("--relevance", is_flag=True,
              help="Best match first, among the newest 20,000 messages with these "
              "words.")  # fmt: skip
@click.option("--replays", is_flag=True, help="Also find messages of replays.")
@limit_option
@cursor_option
@json_option
def search(
    store: str | None,
    query: tuple[str, ...],
    roles: tuple[str, ...],
    prefix: str | None,
    relevance: bool,
    replays: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **filters: Unpack[Filters],
) -> None:
    """Find messages by their words, newest first.

    It searches messages with their reasoning and tool calls, results of tools, tasks, tags and
    errors. A message must have all words of QUERY, in any case. "late delivery" finds words next to
    each other, and refund* finds words that begin so. With `refund OR money`, one of the two is
    enough; `refund NOT money` excludes messages with money. Put a query with such characters in
    single quotes. --after and --before refer to the times of messages.
    """
    with open_named(store) as opened, usage_errors():
        hits = opened.search(
            " ".join(query),
            role=roles or None,
            session_id=None if prefix is None else opened.find_id(prefix),
            replays=replays,
            sort="relevance" if relevance else "newest",
            limit=limit or None,
            cursor=cursor,
            **filters,
        )
        places: dict[int, str] = {}
        if hits and not as_json:
            from lllm.store.hit_names import names_of_places

            places = names_of_places(opened, hits)
    if as_json:
        from lllm.cli.render.json_text import array, show_json

        show_json(array(hits))
    elif hits:
        from lllm.cli.render.console import stdout
        from lllm.cli.render.search import show_hits

        show_hits(stdout(), hits, zone(), places)
    if hits.note:
        click.echo(hits.note, err=True)
    if hits.cursor is not None:
        print_next_cursor(hits.cursor)
    if not hits:
        raise Finding("No message matches.")
