"""The command `lllm prove`: writes a proof of one session."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import id_argument, open_named, store_option
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)
_GIVEN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@store_option
@id_argument
@click.option("--checkpoint", required=True, type=_GIVEN, metavar="FILE",
              help="A seal that was made after the end of the session.")  # fmt: skip
@click.option(
    "--out", required=True, type=_FILE, metavar="FILE", help=("The new file for the proof.")
)
@click.option(
    "--redacted", is_flag=True, help=("Show only types, times and commitments; no content.")
)
@click.option("--event", type=click.IntRange(min=1), metavar="N",
              help="Prove only event N of the session.")  # fmt: skip
@click.option("--children", is_flag=True, help="Also prove the child sessions.")
@click.option("--related", is_flag=True,
              help="Also prove later statements about it and the definitions of its agents.",
              )  # fmt: skip
@click.option(
    "--key", type=_GIVEN, metavar="KEY.pub", help=("Put the public key of the seal into the proof.")
)
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

    The file contains the session's events, and hashes which show that the log of the seal contains
    them. It contains nothing of other sessions. `lllm verify --proof FILE` checks it on any
    machine.
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
