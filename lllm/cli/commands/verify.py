"""The command `lllm verify`: checks that no event was changed or lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from lllm.cli.options import json_option, store_location, store_option


@click.command()
@store_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that the log continues from this seal; repeat it for several.",
)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    metavar="KEY.pub",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check that seals are signed with this key; repeat it for several.",
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
    proof: Path | None,
    as_json: bool,
) -> None:
    """Check that no event was changed or lost.

    Each damaged place is named, and the check continues behind it. With seals from `lllm seal`, the
    order of the events and the end of the log are checked, too. Exit code 0 means that all is good,
    1 that something is wrong, 3 that nothing wrong was found, but not everything could be checked.

    A proof is checked against keys or seals that you have from another source than the proof.
    """
    if proof is not None:
        if store is not None:
            raise click.UsageError("A proof is checked without a store: give --proof or --store.")
        _verify_proof(proof, checkpoints, key_files, as_json)
        return
    if key_files and not checkpoints:
        raise click.UsageError("Keys check the signatures of seals: give --checkpoint, too.")
    from lllm.audit.extension import check_extension, tree_for
    from lllm.audit.keys import read_public_key
    from lllm.audit.sealing import read_anchor
    from lllm.cli.render.progress import progress
    from lllm.cli.render.verify import show
    from lllm.events.backends import open_log
    from lllm.events.integrity.verify import verify as check

    with (
        closing(open_log(store_location(store), make=False)) as log,
        progress("Verifying") as report,
    ):
        keys = [read_public_key(file) for file in key_files]
        anchors = [read_anchor(file, keys) for file in checkpoints]
        tree = tree_for(log, anchors)
        verified = check(log, progress=report, tree=tree)
        extensions = [] if tree is None else check_extension(log, tree, anchors)
    show(verified, as_json, extensions)


def _verify_proof(
    file: Path, checkpoints: tuple[Path, ...], key_files: tuple[Path, ...], as_json: bool
) -> None:
    from lllm.audit.check_proof import check_proof
    from lllm.audit.keys import read_public_key
    from lllm.audit.proof import parse_proof
    from lllm.audit.sealing import read_anchor
    from lllm.cli.render.proof import show

    keys = [read_public_key(one) for one in key_files]
    trusted = [read_anchor(one, keys).checkpoint for one in checkpoints]
    show(check_proof(parse_proof(file.read_bytes()), keys, trusted), as_json)
