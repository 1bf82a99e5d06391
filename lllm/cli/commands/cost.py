"""The command `lllm cost`: sums up the cost of sessions."""

from __future__ import annotations

import datetime as dt
from typing import Unpack

import click

from lllm.cli.condition_options import SessionFilters, any_given, with_session_filters
from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    as_groups,
    csv_option,
    json_option,
    open_named,
    store_option,
    usage_errors,
    zone,
)


@click.command()
@store_option
@click.option("--by", metavar="WHAT", multiple=True, default=("tactic",), callback=as_groups,
              help="Group by tactic, model, agent, day or tag:KEY; can be given several times.  "
              "[default: tactic]")  # fmt: skip
@click.option("--prices", metavar="WHICH", default="recorded", show_default=True,
              help="recorded, current (today's prices), or a JSON or TOML file with "
              "prices.")  # fmt: skip
@click.option(
    "--as-model", metavar="NAME", help="Price every call as if this model had answered it."
)
@with_session_filters
@json_option
@csv_option
def cost(
    store: str | None,
    by: tuple[str, ...],
    prices: str,
    as_model: str | None,
    as_json: bool,
    as_csv: bool,
    **filters: Unpack[SessionFilters],
) -> None:
    """Sum up the cost of sessions, including the sessions below them.

    A call of unknown price counts as unpriced, never as $0. Wasted is the cost of answers that were
    not used, or did not arrive completely. Days are local, or UTC in --json and --csv, unless --utc
    or --tz says otherwise; a day on which clocks change has 23 or 25 hours.

    With other --prices or --as-model, the recorded usage is priced again and shown beside the
    recorded cost; nothing in the store changes. A price file has US dollars for a million tokens,
    as {"my-model": {"input": 0.5, "output": 1.5}}; other models are priced at today's prices.
    """
    if as_json and as_csv:
        raise click.UsageError("Either --json or --csv; not both.")
    from lllm.cli.price_file import prices_of

    table = prices_of(prices)
    with open_named(store) as opened, usage_errors():
        summary = opened.export_cost_summary(
            group_by=by,
            prices=table,
            as_model=as_model,
            tz=zone(dt.UTC if as_json or as_csv else None),
            **filters,
        )
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(summary).decode())
    elif as_csv:
        from lllm.cli.render.csv_costs import show_costs_as_csv

        show_costs_as_csv(summary, by)
    if not summary["session_count"]:
        raise Finding("No session fits." if any_given(filters)
                      else "The store has no sessions yet.")  # fmt: skip
    if not (as_json or as_csv):
        from lllm.cli.render.console import stdout
        from lllm.cli.render.costs import show_costs

        show_costs(stdout(), summary, by)
