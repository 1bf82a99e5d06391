"""The command `lllm ls`: lists sessions, newest first."""

from __future__ import annotations

from typing import Unpack, get_args

import click

from lllm.cli.condition_options import SessionFilters, any_given, with_session_filters
from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    cursor_option,
    json_option,
    limit_option,
    open_named,
    print_next_cursor,
    store_option,
    usage_errors,
    zone,
)
from lllm.projections.queries.filters import SessionSort


@click.command("ls")
@store_option
@with_session_filters
@limit_option
@cursor_option
@click.option("--sort", type=click.Choice(get_args(SessionSort)), default="started",
              show_default=True,
              help="What to sort by: times from the newest, amounts from the largest, texts from "
              "A to Z.",
              )  # fmt: skip
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--replays", is_flag=True, help="Also list replays.")
@json_option
def ls(
    store: str | None,
    limit: int,
    cursor: str | None,
    sort: SessionSort,
    reverse: bool,
    replays: bool,
    as_json: bool,
    **filters: Unpack[SessionFilters],
) -> None:
    """List sessions, newest first.

    It lists top-level sessions; with --tactic, the sessions of that tactic at any depth. --json
    prints one array with an object for each session.
    """
    with open_named(store) as opened, usage_errors():
        found = opened.list_sessions(
            limit=limit + 1 if limit else None,
            cursor=cursor,
            sort=sort,
            reverse=reverse,
            replays=replays,
            **filters,
        )
        page = found[:limit] if limit else found
        if as_json:
            from lllm.cli.render.json_text import array, show_json

            show_json(array(page))
        if not page:
            raise Finding("No session fits." if any_given(filters) or cursor
                          else "The store has no sessions yet.")  # fmt: skip
    if as_json:
        return
    from lllm.cli.render.console import stdout
    from lllm.cli.render.session_list import show_list

    show_list(stdout(), page, zone())
    if len(found) > len(page):
        print_next_cursor(page[-1].cursor)
