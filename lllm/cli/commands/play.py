"""The command `lllm play`: shows the events of a session on the terminal at their own pace."""

from __future__ import annotations

import click

from lllm.cli.options import id_argument, open_named, store_option, zone, zone_options


@click.command()
@store_option
@id_argument
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, metavar="N",
              show_default=True, help="The speed: 2 is twice as fast as it happened.")  # fmt: skip
@zone_options
def play(store: str | None, prefix: str, speed: float) -> None:
    """Play a session in the terminal, event by event, as it happened.

    Its events and those of the sessions below it appear one on each line, with their original
    pauses. A pause of more than 3 seconds is shortened, and its length is shown. Space pauses and
    continues, s shows the next event and pauses, q quits. If the output is not a terminal, all
    lines are printed at once.
    """
    import sys

    from lllm.cli.player import Player, events_of, terminal_keys
    from lllm.cli.render.console import stdout
    from lllm.cli.render.events import EventLines

    with open_named(store) as opened:
        events = events_of(opened, opened.find_id(prefix))
    console = stdout()
    lines = EventLines(console, zone(), with_session=True)
    if not console.is_terminal:
        for event in events:
            lines.show(event)
        return
    with terminal_keys(sys.stdin) as keys:
        Player(console, lines, keys, speed).play(events)
