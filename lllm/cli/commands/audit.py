"""The commands that let a log be shown as evidence: `seal`, `keygen`, `prove`."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import (
    given_before,
    id_argument,
    open_named,
    store_location,
    store_option,
)
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)
_GIVEN = click.Path(exists=True, dir_okay=False, path_type=Path)


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


@click.command()
@store_option
@click.argument("key", type=_FILE)
@click.option("--name", metavar="NAME", help="Of the log that it signs, as example.com/my-log.")
def keygen(store: str | None, key: Path, name: str | None) -> None:
    """Make a key to sign seals with.

    It makes KEY, which is secret, and KEY.pub. KEY belongs to another machine, or another user,
    than the store.
    """
    import os

    from lllm.audit.keys import PrivateKey, write_key_files
    from lllm.audit.sealing import refuse_beside_store
    from lllm.cli.open_store import named_in_environment
    from lllm.events.backends.location import sqlite_path

    known = store or given_before() or named_in_environment()
    if known is not None:
        refuse_beside_store(key, Path(sqlite_path(known)), "The private key")
    made = PrivateKey.generate(name or f"lllm/{os.urandom(8).hex()}")
    public = write_key_files(key, made)
    click.echo(f"{visible(str(key))} is secret and signs; {visible(str(public))} is to check with.")
    click.echo(visible(str(made.public)))


@click.command()
@store_option
@id_argument
@click.option("--checkpoint", required=True, type=_GIVEN, metavar="FILE",
              help="A seal from after the end of the session.")  # fmt: skip
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="Where the proof goes.")
@click.option("--redacted", is_flag=True, help="Show no content: types, times and commitments.")
@click.option("--event", type=click.IntRange(min=1), metavar="N",
              help="Prove event N of the session alone.")  # fmt: skip
@click.option("--children", is_flag=True, help="Prove the sessions below it, too.")
@click.option("--related", is_flag=True,
              help="Prove what was said about it later and its agents' definitions, too.",
              )  # fmt: skip
@click.option("--key", type=_GIVEN, metavar="KEY.pub", help="Put the key of the seal inside.")
@click.option("--html", is_flag=True, help="Make a page that checks itself in a browser.")
def prove(
    store: str | None,
    prefix: str,
    checkpoint: Path,
    out: Path,
    redacted: bool,
    event: int | None,
    children: bool,
    related: bool,
    key: Path | None,
    html: bool,
) -> None:
    """Write a proof of one session, to be checked without the store.

    The file has the session's events and what shows that they stand in the log of the seal;
    nothing of other sessions is in it. `lllm verify --proof FILE` checks it on any machine.
    """
    if event is not None and (redacted or children or related):
        raise click.UsageError("--event shows one event with its content, and nothing else.")
    from lllm.audit.keys import read_public_key
    from lllm.audit.proof_page import proof_page
    from lllm.audit.signed_note import decode_text
    from lllm.cli.render.formats import counted
    from lllm.events.files.own_files import open_new_output

    with open_named(store) as opened:
        made = opened.prove(
            opened.find_id(prefix),
            decode_text(checkpoint.read_bytes()),
            redacted=redacted,
            event=event,
            children=children,
            related=related,
            key=None if key is None else read_public_key(key),
        )
    with open(out, "w", encoding="utf-8", newline="\n", opener=open_new_output) as file:
        file.write(proof_page(made) if html else made.text())
    events = sum(len(one.events) for one in made.streams)
    click.echo(
        f"{visible(str(out))}: {counted(events, 'event')} of {counted(len(made.streams), 'stream')}"
        f"{', without their content' if redacted else ''}."
    )
