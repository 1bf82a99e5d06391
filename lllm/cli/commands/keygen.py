"""The command `lllm keygen`: makes a key to sign seals with."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import given_before, store_option
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@store_option
@click.argument("key", type=_FILE)
@click.option(
    "--name",
    metavar="NAME",
    help=("The name of the log that it signs, for example example.com/my-log."),
)
def keygen(store: str | None, key: Path, name: str | None) -> None:
    """Make a key to sign seals with.

    It writes KEY, which is secret, and KEY.pub, which is for everybody. Keep KEY on another machine
    than the store, or with another user.
    """
    import os

    from lllm.audit.keys import PrivateKey, write_key_files
    from lllm.audit.outside_store import refuse_beside_store
    from lllm.cli.open_store import named_in_environment
    from lllm.events.backends.location import file_of

    known = store or given_before() or named_in_environment()
    if known is not None:
        refuse_beside_store(key, file_of(known), "The private key")
    made = PrivateKey.generate(name or f"lllm/{os.urandom(8).hex()}")
    public = write_key_files(key, made)
    click.echo(f"{visible(str(key))} is secret and signs; {visible(str(public))} is to check with.")
    click.echo(visible(str(made.public)))
