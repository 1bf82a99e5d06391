"""The command `lllm tail`: prints events as they are written, by any process."""

from __future__ import annotations

import click

from lllm.cli.options import open_named, store_option, zone, zone_options


@click.command()
@store_option
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", default=10,
              show_default=True, help="Begin with the last N events.")  # fmt: skip
@click.option("--session", "prefix", metavar="ID", help="Only this session and those below it.")
@zone_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the events as JSON lines, as they are written."
)
def tail(store: str | None, lines: int, prefix: str | None, as_json: bool) -> None:
    """Print events as they are written, by any process. Ctrl-C ends it."""
    from lllm.cli.follow import FollowedSessions, follow
    from lllm.cli.render.console import stdout
    from lllm.cli.render.events import EventLines
    from lllm.cli.render.json_text import show_json
    from lllm.events.exported_lines import as_jsonl

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
