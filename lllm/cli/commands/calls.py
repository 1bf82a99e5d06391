"""The command `lllm calls`: lists single attempts to call a model."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Unpack

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    Filters,
    csv_option,
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

if TYPE_CHECKING:
    from lllm.projections.queries.call_statistics import CallGroup
    from lllm.projections.queries.filters import CallSort

_GROUPS = ("model", "provider", "tactic", "agent", "day", "hour")
_SORTS = ("started", "elapsed", "first_token", "cost", "tokens")


@click.command()
@store_option
@click.option("--error", metavar="WHAT",
              help="Only failed attempts with this HTTP status (429, 5xx), or with this text in "
              "their error (timeout).")  # fmt: skip
@click.option(
    "--model", metavar="NAME", help="Only calls of this model; * matches anything, as in 'gpt-4o*'."
)
@click.option("--provider", metavar="NAME", help="Only calls of this provider, for example openai.")
@click.option(
    "--slower", metavar="TIME", help="Only calls that took at least this long: 5s, 500ms, 2min."
)
@click.option("--session", "prefix", metavar="ID", help="Only this session and those below it.")
@with_filters
@click.option("--sort", type=click.Choice(_SORTS), default="started", show_default=True,
              help="What to sort by: times from the newest, amounts from the largest.")  # fmt: skip
@click.option("--by", type=click.Choice(_GROUPS),
              help="Print statistics instead, for each of these: errors, retries and "
              "times.")  # fmt: skip
@limit_option
@cursor_option
@json_option
@csv_option
def calls(
    store: str | None,
    error: str | None,
    model: str | None,
    provider: str | None,
    slower: str | None,
    prefix: str | None,
    sort: CallSort,
    by: CallGroup | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    as_csv: bool,
    **filters: Unpack[Filters],
) -> None:
    """List attempts to call a model, newest first.

    Each attempt is one line; failed and repeated attempts have lines, too. `lllm calls --sort
    elapsed` lists the slowest, and `lllm calls --error 429 --after 7d` those that were rate-limited
    in the last week. --state filters by the attempt's state; tags, tactics and partitions filter by
    its session. --json prints one array with an object for each attempt. --by prints statistics of
    the newest 200,000 attempts instead; its three times are those within which 50 %, 95 % and 99 %
    of the answers were complete.
    """
    if as_json and as_csv:
        raise click.UsageError("Either --json or --csv; not both.")
    if by is not None:
        if as_csv or slower or prefix or cursor or filters["state"]:
            raise click.UsageError(
                "--by sums up; --csv, --slower, --session, --state and --cursor are of lists."
            )
        _sum_up(store, by, error, model, provider, as_json, filters)
        return
    asked = (error, model, provider, slower, prefix, cursor)
    with open_named(store) as opened, usage_errors():
        found = opened.list_calls(
            error=error, model=model, provider=provider, slower=slower,
            session_id=None if prefix is None else opened.find_id(prefix),
            sort=sort, limit=limit + 1 if limit else None, cursor=cursor, **filters,
        )  # fmt: skip
    page = found[:limit] if limit else found
    if as_json:
        from lllm.cli.render.json_text import array, show_json

        show_json(array(page))
    elif as_csv:
        from lllm.cli.render.csv_calls import show_calls_as_csv

        show_calls_as_csv(page)
    if not page:
        raise Finding("No call of a model matches." if any((*asked, *filters.values()))
                      else "The store has no calls of a model yet.")  # fmt: skip
    if not (as_json or as_csv):
        from lllm.cli.render.calls import show_calls
        from lllm.cli.render.console import stdout

        show_calls(stdout(), page, zone())
    if len(found) > len(page):
        print_next_cursor(page[-1].cursor)


def _sum_up(
    store: str | None,
    by: CallGroup,
    error: str | None,
    model: str | None,
    provider: str | None,
    as_json: bool,
    filters: Filters,
) -> None:
    with open_named(store) as opened, usage_errors():
        summary = opened.summarize_calls(
            group_by=by, error=error, model=model, provider=provider,
            tactic_path=filters["tactic_path"], tags=filters["tags"], after=filters["after"],
            before=filters["before"], partition=filters["partition"],
            tz=zone(dt.UTC if as_json else None),
        )  # fmt: skip
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(summary).decode())
    if not summary.total.calls and not summary.removed_calls:
        raise Finding("No call of a model matches.")
    if not as_json:
        from lllm.cli.render.call_statistics import show_call_statistics
        from lllm.cli.render.console import stdout

        show_call_statistics(stdout(), summary, by)
