"""The command `lllm rebuild`: rebuilds lists, tags and costs from the events."""

from __future__ import annotations

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import open_named, store_option


@click.command()
@store_option
@click.option("--check", is_flag=True, help="Change nothing; only compare with the events.")
@click.option("--search", type=click.Choice(("on", "off")),
              help="on: build only the index of `lllm search`, and keep it from now on. off: "
              "remove it.",
              )  # fmt: skip
@click.option("--jsonb", type=click.Choice(("on", "off")),
              help="on: copy the payloads as jsonb, for dashboards on PostgreSQL, and keep the "
              "copies from now on. off: remove them.",
              )  # fmt: skip
def rebuild(store: str | None, check: bool, search: str | None, jsonb: str | None) -> None:
    """Rebuild lists, tags, costs and the search index from the events.

    Other programs may read and write meanwhile. --check changes nothing: exit code 1 means that
    something differs, and the first difference is printed.
    """
    if check + bool(search) + bool(jsonb) > 1:
        raise click.UsageError("One of --check, --search and --jsonb; not more.")
    from lllm.cli.render.progress import progress
    from lllm.cli.render.rebuild import difference_text

    with open_named(store) as opened, progress("Checking" if check else "Rebuilding") as report:
        built = opened.rebuild(
            check=check, search=_is_on(search), jsonb=_is_on(jsonb), progress=report
        )
    if search == "off":
        click.echo("The store has no search index now; `lllm rebuild --search on` makes one.")
        return
    if jsonb == "off":
        click.echo("Payloads are not kept as jsonb now; `lllm rebuild --jsonb on` copies them.")
        return
    if not built.views:
        raise Finding("A newer lllm built these rows; upgrade to check or rebuild them.")
    views = ", ".join(built.views)
    if built.difference is not None:
        click.echo(difference_text(built.difference))
        raise Finding("The stored rows differ from the events; `lllm rebuild` mends them.")
    if check:
        click.echo(f"{views}: as the events say, up to position {built.position}.")
    else:
        click.echo(f"{views}: built anew, up to position {built.position}.")


def _is_on(switch: str | None) -> bool | None:
    return None if switch is None else switch == "on"
