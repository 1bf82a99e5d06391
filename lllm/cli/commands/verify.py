"""The command `lllm verify`: checks that no event was changed or lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lllm.cli.options import json_option, store_location, store_option

if TYPE_CHECKING:
    from lllm.audit.sealing import Anchor


@click.command()
@store_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that the log continues from this seal; can be given several times.",
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    metavar="KEY.pub",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that seals are signed with this key; can be given several times.",
)
@click.option(
    "--timestamp-ca",
    "ca_files",
    multiple=True,
    metavar="PEM",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check timestamps of seals with these certificates; can be given several times.",
)
@click.option(
    "--witness-key",
    "witness_keys",
    multiple=True,
    metavar="KEY",
    help="Check that this witness cosigned: a key, or a file of keys; can be given several times.",
)
@click.option(
    "--proof",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check this proof from `lllm prove` instead; no store is needed.",
)
@json_option
def verify(
    store: str | None,
    checkpoints: tuple[Path, ...],
    key_files: tuple[Path, ...],
    ca_files: tuple[Path, ...],
    witness_keys: tuple[str, ...],
    proof: Path | None,
    as_json: bool,
) -> None:
    """Check that no event was changed or lost.

    It lists every damaged place, not only the first. With seals from `lllm seal`, the order of the
    events and the end of the log are checked, too. Exit code 0 means that all is good, 1 that
    something is wrong, 3 that nothing wrong was found, but not everything could be checked.

    The timestamp beside a seal and the cosignatures in it are checked offline. They prove that the
    log existed at that time, but not how old it was then.

    A proof is checked against keys or seals that you have from another source than the proof.
    """
    if proof is not None:
        if store is not None:
            raise click.UsageError("A proof is checked without a store: give --proof or --store.")
        if ca_files and not checkpoints:
            raise click.UsageError(
                "The timestamp is beside the seal, not in the proof: give --checkpoint, too."
            )
        _verify_proof(proof, checkpoints, key_files, ca_files, witness_keys, as_json)
        return
    if (key_files or ca_files or witness_keys) and not checkpoints:
        raise click.UsageError("Keys check the signatures of seals: give --checkpoint, too.")
    from lllm.audit.extension import check_extension, tree_for
    from lllm.cli.render.progress import progress
    from lllm.cli.render.verify import show
    from lllm.events.backends import open_log
    from lllm.events.integrity.verify import verify as check

    with (
        closing(open_log(store_location(store), make=False)) as log,
        progress("Verifying") as report,
    ):
        anchors = _anchors(checkpoints, key_files, ca_files, witness_keys)
        tree = tree_for(log, anchors)
        verified = check(log, progress=report, tree=tree)
        extensions = [] if tree is None else check_extension(log, tree, anchors)
    show(verified, as_json, extensions)


def _verify_proof(
    file: Path,
    checkpoints: tuple[Path, ...],
    key_files: tuple[Path, ...],
    ca_files: tuple[Path, ...],
    witness_keys: tuple[str, ...],
    as_json: bool,
) -> None:
    import msgspec

    from lllm.audit.check_proof import check_proof
    from lllm.audit.cosignature import read_witness_keys
    from lllm.audit.keys import read_public_key
    from lllm.audit.proof import parse_proof
    from lllm.cli.render.proof import show

    proof = parse_proof(file.read_bytes())
    anchors = _anchors(checkpoints, key_files, ca_files, ())
    checked = check_proof(
        proof,
        [read_public_key(one) for one in key_files],
        [one.checkpoint for one in anchors],
        [one for given in witness_keys for one in read_witness_keys(given)],
    )
    # a timestamp is kept beside the seal that the proof has
    found = checked.checkpoint
    stamps = [
        check
        for anchor in anchors
        for check in anchor.outside
        if check.kind == "timestamp" and found is not None and anchor.checkpoint == found
    ]
    show(msgspec.structs.replace(checked, outside=(*checked.outside, *stamps)), as_json)


def _anchors(
    checkpoints: tuple[Path, ...],
    key_files: tuple[Path, ...],
    ca_files: tuple[Path, ...],
    witness_keys: tuple[str, ...],
) -> list[Anchor]:
    from lllm.audit.cosignature import read_witness_keys
    from lllm.audit.keys import read_public_key
    from lllm.audit.sealing import read_anchor
    from lllm.audit.timestamp import read_authorities

    keys = [read_public_key(file) for file in key_files]
    authorities = read_authorities(ca_files)
    witnesses = [one for given in witness_keys for one in read_witness_keys(given)]
    return [
        read_anchor(file, keys, authorities=authorities, witnesses=witnesses)
        for file in checkpoints
    ]
