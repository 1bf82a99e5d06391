"""The command `lllm seal`: writes a checkpoint of the log, to be kept elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import open_named, store_location, store_option
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@store_option
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="Where the seal is kept.")
@click.option("--key", type=_FILE, metavar="KEY", help="Sign it with the private key in a file.")
@click.option("--key-env", metavar="NAME", help="Sign it with the one in a variable.")
def seal(store: str | None, out: Path, key: Path | None, key_env: str | None) -> None:
    """Write a checkpoint of the log, to be kept elsewhere.

    It is the size of the log and the root of its Merkle tree. Keep it outside of
    the store; `lllm verify --checkpoint FILE` then finds whatever was altered,
    cut off or put in before. With a key it is signed.
    """
    if key is not None and key_env is not None:
        raise click.UsageError("Give --key or --key-env, not both.")
    from lllm.audit.keys import private_key_in_environment, read_private_key
    from lllm.audit.sealing import refuse_beside_store
    from lllm.events.backends.location import sqlite_path
    from lllm.events.files.own_files import open_new_output

    location = Path(sqlite_path(store_location(store)))
    refuse_beside_store(out, location, "The seal")
    signer = None
    if key is not None:
        refuse_beside_store(key, location, "The private key")
        signer = read_private_key(key)
    elif key_env is not None:
        signer = private_key_in_environment(key_env)
    with open_named(store) as opened:
        content = opened.seal(key=signer)
    try:
        with open(out, "x", encoding="utf-8", newline="\n", opener=open_new_output) as file:
            file.write(content)
    except FileExistsError:
        raise click.UsageError(
            f"{out} is there already. An earlier seal proves what a later one can't: none is "
            "replaced, so give another name."
        ) from None
    size = content.split("\n")[1]
    by = "" if signer is None else f", signed by {visible(signer.public.name)}"
    click.echo(f"{visible(str(out))}: {int(size):,} events{by}.")
