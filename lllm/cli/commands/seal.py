"""The command `lllm seal`: writes a checkpoint of the log, to be kept outside of the store."""

from __future__ import annotations

from pathlib import Path

import click

from lllm.cli.options import open_named, store_location, store_option
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)
_GIVEN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@store_option
@click.option(
    "--out",
    required=True,
    type=_FILE,
    metavar="FILE",
    help=("The new file for the seal, outside of the store."),
)
@click.option(
    "--key", type=_FILE, metavar="KEY", help=("Sign the seal with the private key in a file.")
)
@click.option(
    "--key-env",
    metavar="NAME",
    help=("Sign the seal with the private key in an environment variable."),
)
@click.option("--timestamp", metavar="URL",
              help=(
                  "Have this RFC 3161 authority sign the time. Its answer is written to FILE.tsr."
              ))  # fmt: skip
@click.option("--witness", "witnesses", multiple=True, metavar="URL",
              help="Have this C2SP witness cosign the seal; can be given several "
              "times.")  # fmt: skip
@click.option("--timestamp-ca", "authorities", multiple=True, type=_GIVEN, metavar="PEM",
              help="Accept only timestamps that these certificates verify.")  # fmt: skip
@click.option("--witness-key", "witness_keys", multiple=True, metavar="KEY",
              help="Accept only cosignatures of these witnesses: a key, or a file of keys.",
              )  # fmt: skip
@click.option("--optional-anchors", is_flag=True,
              help="Write the seal even if there is no answer from an authority or a witness.",
              )  # fmt: skip
def seal(
    store: str | None,
    out: Path,
    key: Path | None,
    key_env: str | None,
    timestamp: str | None,
    witnesses: tuple[str, ...],
    authorities: tuple[Path, ...],
    witness_keys: tuple[str, ...],
    optional_anchors: bool,
) -> None:
    """Write a checkpoint of the log, to be kept elsewhere.

    It contains the size of the log and the root of its Merkle tree. Keep it outside
    of the store: `lllm verify --checkpoint FILE` then finds every event that was
    altered, cut off or inserted since. With a key, the checkpoint is signed.

    A timestamp or a witness proves that the checkpoint existed at a certain time. If
    one of them can't be had, nothing is written, unless --optional-anchors is given.
    If a witness has cosigned a checkpoint that contradicts this one, nothing is ever
    written.
    """
    if key is not None and key_env is not None:
        raise click.UsageError("Give --key or --key-env, not both.")
    if witnesses and key is None and key_env is None:
        raise click.UsageError("Witnesses cosign only signed seals: give --key or --key-env, too.")
    from lllm.audit.anchoring import refuse_replacing
    from lllm.audit.cosignature import read_witness_keys
    from lllm.audit.keys import private_key_in_environment, read_private_key
    from lllm.audit.outside_store import refuse_beside_store
    from lllm.audit.timestamp import token_path
    from lllm.events.backends.location import file_of

    location = file_of(store_location(store))
    refuse_beside_store(out, location, "The seal")
    signer = None
    if key is not None:
        refuse_beside_store(key, location, "The private key")
        signer = read_private_key(key)
    elif key_env is not None:
        signer = private_key_in_environment(key_env)
    for path in [out] if timestamp is None else [out, token_path(out)]:
        refuse_replacing(path)  # before anybody outside is asked for anything
    with open_named(store) as opened:
        made = opened.seal(
            key=signer,
            timestamp=timestamp,
            witnesses=witnesses,
            authorities=authorities,
            witness_keys=[one for given in witness_keys for one in read_witness_keys(given)],
            optional_anchors=optional_anchors,
        )
    files = made.write(out)
    click.echo(_line(made.split("\n"), files, None if signer is None else signer.public.name))


def _line(lines: list[str], files: list[Path], signer: str | None) -> str:
    by = "" if signer is None else f", signed by {visible(signer)}"
    signatures = 0 if signer is None else len(lines) - lines.index("") - 3
    if signatures:
        by += f", with {signatures} cosignature{'' if signatures == 1 else 's'}"
    for token in files[1:]:
        by += f", with a timestamp in {visible(str(token))}"
    return f"{visible(str(files[0]))}: {int(lines[1]):,} events{by}."
