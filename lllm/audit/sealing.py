"""Makes checkpoints of a log, and reads earlier ones, against which `extension` checks a log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lllm.audit.checkpoint import LogCheckpoint, parse_checkpoint
from lllm.audit.cosignature import WitnessKey, check_cosignatures, is_cosignature
from lllm.audit.keys import PrivateKey, PublicKey
from lllm.audit.signed_note import (
    SignedNote,
    decode_text,
    is_signed,
    parse_note,
    sign_note,
    verify_note,
)
from lllm.audit.timestamp import read_timestamp
from lllm.audit.verdict import AnchorCheck, Verdict
from lllm.events.backend import LogBackend, read_digests
from lllm.events.errors import AuditError, LogError, SignatureInvalid, StoreError
from lllm.events.integrity.leaves import leaf_pages, marked
from lllm.events.integrity.merkle import RightEdge
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.merkle import StoredTree

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_logger = logging.getLogger("lllm.store")

AsksRows = Callable[[Callable[[RowsDatabase], StoredTree]], StoredTree]
"""Runs a query on the database of a log's views, as `ReadModel.ask` does."""


class Sealed(msgspec.Struct, frozen=True):
    """A checkpoint that was just made.

    Attributes:
        checkpoint: The size of the log and the root of its tree.
        content: The content of the checkpoint's file, signed if a key was given.
        timestamp: The content of the timestamp's file beside it; None for no timestamp.
    """

    checkpoint: LogCheckpoint
    content: str
    timestamp: bytes | None = None


def sealed(log: LogBackend, ask: AsksRows, key: PrivateKey | None) -> Sealed:
    """Make a checkpoint of a log as it is now.

    Args:
        log: The log to seal.
        ask: Asks the database of the log's views, which may lack the newest events.
        key: The private key that signs the checkpoint; None for no signature.

    Returns:
        The checkpoint, and the content of its file.

    Raises:
        LogError: The log can't be read.
        MissingExtra: A key is given, and the extra `audit` is not installed.
    """
    edge, position, unreadable = RightEdge(), 0, 0
    with suppress(StoreError, LogError):  # no rows, or none that can be used: the log has it all
        tree = ask(lambda database: StoredTree(log, database))
        if tree.last_position <= log.head():  # else the log has lost its end
            unreadable = tree.unreadable()
            edge, position = tree.edge, tree.last_position
    for page in leaf_pages(log, after=position):
        edge.extend(marked(page))
        unreadable += sum(digest is None for _, digest in page)
    if unreadable:
        _logger.warning(
            "%s of the log can't be read; the seal has a mark in place of each, and does not fit "
            "a log in which that was mended. `lllm verify` names them.",
            "1 event" if unreadable == 1 else f"{unreadable:,} events",
        )  # fmt: skip
    origin = log_name(log) if key is None else key.public.name
    checkpoint = LogCheckpoint(origin, edge.size, edge.root())
    text = checkpoint.text()
    return Sealed(checkpoint, text if key is None else sign_note(text, key).content())


def log_name(log: LogBackend) -> str:
    """Make the name of a log from the digest of its first event, which no other log has.

    Args:
        log: The log to name.
    """
    for page in read_digests(log):
        return f"lllm/{page[0][1][:16].hex()}"
    return "lllm/empty"


class Anchor(msgspec.Struct, frozen=True):
    """A checkpoint from a file, and whether it can be trusted.

    Attributes:
        file: The path of the file, as the user wrote it.
        checkpoint: The checkpoint in the file.
        verdict: "good" if a given key signed it, or if it has no signature and no key was given;
            "unknown" if it is signed and no key was given; "wrong" otherwise.
        says: The verdict as a sentence.
        outside: What its timestamp and its cosignatures show.
    """

    file: str
    checkpoint: LogCheckpoint
    verdict: Verdict
    says: str
    outside: tuple[AnchorCheck, ...] = ()


def read_anchor(
    path: Path,
    keys: Sequence[PublicKey],
    *,
    authorities: Sequence[Certificate] = (),
    witnesses: Sequence[WitnessKey] = (),
) -> Anchor:
    """Read a checkpoint, and check its signature, its timestamp and its cosignatures.

    Args:
        path: The path of the checkpoint's file.
        keys: The public keys that the reader trusts.
        authorities: The certificates of the authorities that the reader trusts for timestamps.
        witnesses: The keys of the witnesses that the reader trusts.

    Returns:
        The checkpoint and the results of the checks. No request is sent for them.

    Raises:
        AuditError: The file is not a checkpoint.
        OSError: The file can't be read.
        MissingExtra: Keys are given, and the extra `audit` is not installed.
    """
    content = path.read_bytes()
    try:
        note = parse_note(content) if is_signed(content) else None
        checkpoint = parse_checkpoint(decode_text(content) if note is None else note.text)
    except AuditError as error:
        raise AuditError(f"{path}: {error}") from error
    verdict, says = _signature(note, keys)
    timestamp = read_timestamp(path, content, authorities)
    outside = [] if timestamp is None else [timestamp]
    outside += check_cosignatures(note, witnesses)
    return Anchor(str(path), checkpoint, verdict, says, tuple(outside))


def _signature(note: SignedNote | None, keys: Sequence[PublicKey]) -> tuple[Verdict, str]:
    """Check the signature of a checkpoint; `note` is None if it has no signature."""
    if note is None:
        if keys:
            return "wrong", "it is not signed"
        return "good", "it is not signed, so it proves as much as the place where it was kept"
    if not keys:
        signed = dict.fromkeys(one.name for one in note.signatures if not is_cosignature(one))
        names = ", ".join(signed) or "witnesses alone"
        return "unknown", f"it is signed by {names}, but no key was given to check that (--key)"
    try:
        signers = verify_note(note, keys)
    except SignatureInvalid as error:
        return "wrong", str(error)
    return "good", f"it is signed by {', '.join(one.name for one in signers)}"
