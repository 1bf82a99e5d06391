"""Makes checkpoints of a log, and reads earlier ones; `extension` checks a log against these."""

from __future__ import annotations

import logging
import os
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
from lllm.events.backends.sqlite.database import Database
from lllm.events.errors import AuditError, LogError, SignatureInvalid, StoreError
from lllm.events.integrity.leaves import leaf_pages, marked
from lllm.events.integrity.merkle import RightEdge
from lllm.projections.queries.merkle import StoredTree

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_logger = logging.getLogger("lllm.store")

AsksRows = Callable[[Callable[[Database], StoredTree]], StoredTree]
"""Asks a question of the rows of a log's views, as `ReadModel.ask` does."""


class Sealed(msgspec.Struct, frozen=True):
    """A checkpoint that was just made.

    Attributes:
        checkpoint: What it says.
        content: The content of its file, with a signature where a key was given.
        timestamp: The content of the file beside it, with a timestamp; None for none.
    """

    checkpoint: LogCheckpoint
    content: str
    timestamp: bytes | None = None


def sealed(log: LogBackend, ask: AsksRows, key: PrivateKey | None) -> Sealed:
    """Make a checkpoint of a log as it is now.

    Args:
        log: The log.
        ask: Asks the rows of its views, which may be behind.
        key: Signs it, None for a plain one.

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
    """Name a log by the digest of its first event, which no other log has.

    Args:
        log: The log.
    """
    for page in read_digests(log):
        return f"lllm/{page[0][1][:16].hex()}"
    return "lllm/empty"


class Anchor(msgspec.Struct, frozen=True):
    """A checkpoint from a file, and whether it can be trusted.

    Attributes:
        file: The path, as it was given.
        checkpoint: What it says.
        verdict: Of its signature: "good" where a given key signed it, or where it is a plain one
            and no key was given; "unknown" where nobody gave the key.
        says: The same in words.
        outside: What its timestamp and its witnesses show.
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
        path: The file.
        keys: The keys that are trusted to sign it.
        authorities: The certificates that are trusted to stand behind its timestamp.
        witnesses: The witnesses that are trusted.

    Returns:
        What was found; nothing is sent anywhere for it.

    Raises:
        AuditError: It is no checkpoint.
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
    """Check the signature of a checkpoint, None for one without."""
    if note is None:
        if keys:
            return "wrong", "it is not signed"
        return "good", "it is not signed, so it is worth what its place is"
    if not keys:
        signed = dict.fromkeys(one.name for one in note.signatures if not is_cosignature(one))
        names = ", ".join(signed) or "witnesses alone"
        return "unknown", f"it is signed by {names}, and the key to check that was not given"
    try:
        signers = verify_note(note, keys)
    except SignatureInvalid as error:
        return "wrong", str(error)
    return "good", f"it is signed by {', '.join(one.name for one in signers)}"


def refuse_beside_store(path: Path, store: Path | None, what: str) -> None:
    """Refuse a place in a store, or in the folder where it stands.

    Who can write the store can write there, too, and would change both alike.

    Args:
        path: Where something is to be kept.
        store: The file or folder of the store; None for a store on a server.
        what: What it is, as a sentence begins with it.

    Raises:
        AuditError: It would be there.
    """
    if store is None:
        return
    place, home = Path(os.path.realpath(path)).parent, Path(os.path.realpath(store))
    if place == home.parent or home == place or home in place.parents:
        raise AuditError(
            f"{what} does not belong beside the store {store}: whoever can change the store can "
            f"change what stands there. Give a place in another folder, best on another machine; "
            f"{path} is none."
        )
