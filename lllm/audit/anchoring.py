"""Seals a log with anchors outside of its owner's reach: witnesses, and an authority for the time.

Where an anchor can't be had, no seal is made, unless anchors are optional: then it is made without,
and that is logged. A seal that contradicts one which a witness cosigned is never made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lllm.audit.cosignature import WitnessKey
from lllm.audit.http_post import shown_url
from lllm.audit.keys import PrivateKey
from lllm.audit.sealing import AsksRows, Sealed, sealed
from lllm.audit.signed_note import Signature, SignedNote, parse_note
from lllm.audit.timestamp import read_authorities, request_timestamp, token_path
from lllm.audit.witness import Witness
from lllm.events.backend import LogBackend
from lllm.events.errors import AuditError, SealRefused
from lllm.events.files.own_files import open_new_output

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_logger = logging.getLogger("lllm.store")

_ATTEMPTS = 3  # another process may have a later checkpoint cosigned meanwhile

T = TypeVar("T")


class SealAnchors(msgspec.Struct, frozen=True):
    """Who vouches for a seal, besides its key.

    Attributes:
        timestamp: The URL of a time-stamping authority (RFC 3161), which signs when the seal
            existed; None for none.
        witnesses: The URLs of witnesses (C2SP tlog-witness), which cosign it.
        authorities: Files with certificates, in PEM, that must stand behind the timestamp; none to
            check that later.
        witness_keys: The keys of witnesses that must have made the cosignatures; none to check that
            later.
        optional: Make the seal also without those that can't be had now, and log that.

    Raises:
        AuditError: `witnesses` is one text.
    """

    timestamp: str | None = None
    witnesses: Sequence[str] = ()
    authorities: Sequence[str | os.PathLike[str]] = ()
    witness_keys: Sequence[WitnessKey] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.witnesses, str):
            raise AuditError(f"The witnesses are a list of URLs, as [{self.witnesses!r}].")


class Seal(str):
    """The content of a seal's file, as text.

    Attributes:
        timestamp: The token of a time-stamping authority for this content, an RFC 3161 response in
            DER; None for none. It is kept in a file beside it.
    """

    timestamp: bytes | None

    def __new__(cls, content: str, timestamp: bytes | None = None) -> Seal:  # noqa: D102
        made = super().__new__(cls, content)
        made.timestamp = timestamp
        return made

    def write(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write the seal to a new file, and its timestamp beside it. No file is replaced.

        Args:
            path: The path of the seal; that of its timestamp has ".tsr" at the end.

        Returns:
            The paths of the files.

        Raises:
            AuditError: One of them is there already.
            OSError: They can't be written.
        """
        seal = Path(path)
        contents = {seal: self.encode()}
        if self.timestamp is not None:
            # the timestamp first, so that a seal that was to have one does not stand without
            contents = {token_path(seal): self.timestamp} | contents
        for file in contents:
            refuse_replacing(file)
        for file, content in contents.items():
            try:
                with open(file, "xb", opener=open_new_output) as output:
                    output.write(content)
            except FileExistsError:
                refuse_replacing(file)
                raise
        return list(contents)[::-1]


def refuse_replacing(path: Path) -> None:
    """Refuse to write a seal over a file that exists.

    Args:
        path: The path.

    Raises:
        AuditError: There is something at the path.
    """
    if os.path.lexists(path):
        raise AuditError(
            f"{path} is there already. An earlier seal proves what a later one can't: none is "
            "replaced, so give another name."
        )


def anchored(
    log: LogBackend, ask: AsksRows, key: PrivateKey | None, anchors: SealAnchors
) -> Sealed:
    """Make a checkpoint of a log as it is now, with anchors outside.

    Args:
        log: The log.
        ask: As of `sealed`.
        key: Signs it; a witness cosigns nothing else.
        anchors: Who else vouches for it.

    Returns:
        The checkpoint, the content of its file, and its timestamp.

    Raises:
        SealRefused: A witness has cosigned a checkpoint that this one contradicts.
        AuditError: An anchor can't be had, and they are not optional; or there is no key for a
            witness.
        LogError: The log can't be read.
        MissingExtra: The extra `audit` is not installed.
    """
    if anchors.witnesses and key is None:
        raise AuditError("A witness cosigns what is signed: give a key, too.")
    authorities = read_authorities(anchors.authorities)
    for _ in range(_ATTEMPTS):
        made = _cosigned(sealed(log, ask, key), log, ask, anchors)
        if made is not None:
            return made if anchors.timestamp is None else _stamped(made, anchors, authorities)
    raise AuditError(
        "Witnesses cosign later checkpoints of this log all the time: other processes seal it just "
        "now. Try again."
    )


def _cosigned(made: Sealed, log: LogBackend, ask: AsksRows, anchors: SealAnchors) -> Sealed | None:
    """Have all witnesses cosign; None if one of them knows of a later checkpoint."""
    if not anchors.witnesses:
        return made
    note = parse_note(made.content.encode())
    signatures = note.signatures
    for url in dict.fromkeys(anchors.witnesses):
        witness = Witness(url, log, ask, anchors.witness_keys)
        without: tuple[Signature, ...] | None = ()
        found = _unless_optional(anchors, url, partial(witness.cosign, note), without)
        if found is None:
            return None
        signatures += found
    content = SignedNote(note.text, signatures).content()
    parse_note(content.encode())
    return Sealed(made.checkpoint, content)


def _stamped(made: Sealed, anchors: SealAnchors, authorities: Sequence[Certificate]) -> Sealed:
    url = anchors.timestamp or ""
    content = made.content.encode()
    ask = partial(request_timestamp, content, url, authorities)
    token = _unless_optional(anchors, url, ask, None)
    return Sealed(made.checkpoint, made.content, token)


def _unless_optional(anchors: SealAnchors, url: str, get: Callable[[], T], without: T) -> T:
    """Get an anchor, or log that there is none where they are optional."""
    try:
        return get()
    except SealRefused:
        raise
    except AuditError as error:
        if not anchors.optional:
            raise
        _logger.warning("the seal is made without %s: %s", shown_url(url), error)
        return without
