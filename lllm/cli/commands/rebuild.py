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
def rebuild(store: str | None, check: bool, search: str | None) -> None:
    """Rebuild lists, tags, costs and the search index from the events.

    Other programs may read and write meanwhile. --check changes nothing: exit code 1 means that
    something differs, and the first difference is printed.
    """
    if check and search:
        raise click.UsageError("Either --check or --search; not both.")
    from lllm.cli.render.progress import progress
    from lllm.cli.render.rebuild import difference_text

    with open_named(store) as opened, progress("Checking" if check else "Rebuilding") as report:
        wanted = None if search is None else search == "on"
        built = opened.rebuild(check=check, search=wanted, progress=report)
    if search == "off":
        click.echo("The store has no search index now; `lllm rebuild --search on` makes one.")
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
