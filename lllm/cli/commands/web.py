"""`lllm web`: the sessions of a store in a browser."""

from __future__ import annotations

import sys

import click

from lllm.cli.options import open_named, store_location, store_option, zone, zone_options
from lllm.events.backends.location import shown_location
from lllm.events.errors import MissingExtra
from lllm.store.log_store import session_host


@click.command()
@store_option
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT",
              help="The port; 0 for any free one.  [default: the first free from 8321 on]",
              )  # fmt: skip
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
              help="An address of this machine: 127.0.0.1, ::1 or localhost.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
@click.option("--unsafe-no-auth", is_flag=True,
              help="Require no token: every account of this machine can read it and write notes.",
              )  # fmt: skip
@click.option("--prices", metavar="FILE",
              help="A JSON or TOML file with prices, which the page of costs offers as 'given'.",
              )  # fmt: skip
@click.option("--read-only", is_flag=True, help="Let nobody write notes and scores.")
@zone_options
def web(
    store: str | None,
    port: int | None,
    host: str,
    open_browser: bool,
    unsafe_no_auth: bool,
    prices: str | None,
    read_only: bool,
) -> None:
    """Show the store in a browser: sessions, steps, costs and calls. Ctrl-C ends it.

    The server listens on this machine only, and contacts no other server. It writes nothing to the
    store but the notes and scores that are given on the page, and with --read-only nothing at all.
    The address that it prints contains a token, which every request needs. It needs the extra web:
    pip install 'lllm[web]'.
    """
    try:
        from lllm.cli.price_file import prices_of
        from lllm.web.access import new_token
        from lllm.web.app import make_app
        from lllm.web.server import listen, make_server
    except ImportError as error:
        raise missing_extra("lllm web", error) from error
    with open_named(store, on_error="raise") as opened, listen(host, port) as sock:
        session_host(opened).rows.spares_writers = True
        # A thread that writes rows, for which other processes wait, soon gets its turn again.
        sys.setswitchinterval(0.0005)
        token = None if unsafe_no_auth else new_token()
        shown = f"[{host}]" if ":" in host else host
        number = sock.getsockname()[1]
        app = make_app(
            opened, token=token, host=shown, port=number,
            name=shown_location(opened.backend, store_location(store)), zone=zone(),
            read_only=read_only, prices=None if prices is None else prices_of(prices),
        )  # fmt: skip
        address = f"http://{shown}:{number}/" + (f"?token={token}" if token else "")
        click.echo(f"{address}\nCtrl-C ends it.")
        if open_browser:
            click.launch(address)
        make_server(app).run(sockets=[sock])


def missing_extra(command: str, error: ImportError) -> MissingExtra:
    """Make the error of a command that needs the extra `web`.

    Args:
        command: The command, for example "lllm web".
        error: The error of the failed import.

    Returns:
        The error to raise.
    """
    return MissingExtra(
        f"{command} needs {error.name}, which is not installed: pip install 'lllm[web]'"
    )
