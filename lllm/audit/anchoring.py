"""Makes seals that somebody outside vouches for: witnesses, or a time-stamping authority.

If one of them can't vouch for the seal, no seal is made. If anchors are optional, the seal is made
without it, and a warning is logged. A seal that contradicts an earlier one, which a witness has
cosigned, is never made.
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
from lllm.audit.keys import PrivateKey
from lllm.audit.sealing import AsksRows, Sealed, sealed
from lllm.audit.signed_note import Signature, SignedNote, parse_note
from lllm.audit.timestamp import (
    read_authorities,
    request_timestamp,
    require_timestamps,
    token_path,
)
from lllm.audit.witness import Witness
from lllm.events.backend import LogBackend
from lllm.events.errors import AuditError, SealRefused
from lllm.events.files.own_files import open_new_output
from lllm.invokers.http.opener import shown_url

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_logger = logging.getLogger("lllm.store")

_ATTEMPTS = 3  # another process may have a later checkpoint cosigned meanwhile

T = TypeVar("T")


class SealAnchors(msgspec.Struct, frozen=True):
    """Lists who vouches for a seal, besides the key that signs it.

    Attributes:
        timestamp: The URL of a time-stamping authority (RFC 3161), which signs the time at which
            the seal existed; None for no timestamp.
        witnesses: The URLs of witnesses (C2SP tlog-witness) that cosign the seal.
        authorities: PEM files with the certificates of trusted authorities, with which the
            timestamp is checked at once; empty to check it later.
        witness_keys: The keys of trusted witnesses, with which the cosignatures are checked at
            once; empty to check them later.
        optional: True to make the seal also if one of these can't be reached now. That is logged.

    Raises:
        AuditError: `witnesses` is a single text instead of a list.
    """

    timestamp: str | None = None
    witnesses: Sequence[str] = ()
    authorities: Sequence[str | os.PathLike[str]] = ()
    witness_keys: Sequence[WitnessKey] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.witnesses, str):
            raise AuditError(
                f"witnesses must be a list of URLs, for example [{self.witnesses!r}]; a single "
                "text was given."
            )


class Seal(str):
    """The content of a seal's file, as text.

    Attributes:
        timestamp: The timestamp of this content, an RFC 3161 response in DER, which is kept in a
            file of its own beside the seal; None if there is no timestamp.
    """

    timestamp: bytes | None

    def __new__(cls, content: str, timestamp: bytes | None = None) -> Seal:  # noqa: D102
        made = super().__new__(cls, content)
        made.timestamp = timestamp
        return made

    def write(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write the seal to a new file, and its timestamp beside it. No file is ever replaced.

        Args:
            path: The path of the seal. The path of its timestamp is the same with ".tsr" at the
                end.

        Returns:
            The paths of the files that were written.

        Raises:
            AuditError: One of the files exists already.
            OSError: A file can't be written.
        """
        seal = Path(path)
        contents = {seal: self.encode()}
        if self.timestamp is not None:
            # The timestamp is written first, so that no seal that needs one is ever without it.
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
        path: The path at which the seal is to be written.

    Raises:
        AuditError: Something exists at the path.
    """
    if os.path.lexists(path):
        raise AuditError(
            f"{path} exists already. Seals are never replaced, because an earlier seal proves what "
            "a later one can't. Give another name."
        )


def check_anchors(anchors: SealAnchors) -> tuple[Certificate, ...]:
    """Check what is needed for anchors, before anybody is asked for one.

    Args:
        anchors: Who is to vouch for a seal.

    Returns:
        The certificates that must stand behind its timestamp.

    Raises:
        AuditError: A file can't be read, or has no certificate.
        MissingExtra: A timestamp is wanted, and the extra `audit` is not installed.
    """
    if anchors.timestamp is not None:
        require_timestamps()
    return read_authorities(anchors.authorities)


def anchored(
    log: LogBackend, ask: AsksRows, key: PrivateKey | None, anchors: SealAnchors
) -> Sealed:
    """Make a checkpoint of a log as it is now, and have it timestamped and cosigned.

    Args:
        log: The log to seal.
        ask: Asks the database of views, as in `sealed`.
        key: The private key that signs the checkpoint; None for no signature. Witnesses cosign only
            what is signed.
        anchors: Who else vouches for the checkpoint.

    Returns:
        The checkpoint, the content of its file, and its timestamp.

    Raises:
        SealRefused: A witness has cosigned a checkpoint that contradicts this one.
        AuditError: A timestamp or a cosignature can't be had, and anchors are not optional; or
            witnesses are given without a key.
        LogError: The log can't be read.
        MissingExtra: The extra `audit` is not installed.
    """
    if anchors.witnesses and key is None:
        raise AuditError("Witnesses cosign only signed checkpoints: give a key, too.")
    authorities = check_anchors(anchors)
    for _ in range(_ATTEMPTS):
        made = _cosigned(sealed(log, ask, key), log, ask, anchors)
        if made is not None:
            return made if anchors.timestamp is None else _stamped(made, anchors, authorities)
    raise AuditError(
        "Each time, a witness had already cosigned a later checkpoint of this log, because other "
        "processes seal it now. Try again."
    )


def _cosigned(made: Sealed, log: LogBackend, ask: AsksRows, anchors: SealAnchors) -> Sealed | None:
    """Have all witnesses cosign; None if one of them knows a later checkpoint."""
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
    """Get an anchor; if that fails and anchors are optional, log it and return `without`."""
    try:
        return get()
    except SealRefused:
        raise
    except AuditError as error:
        if not anchors.optional:
            raise
        _logger.warning("the seal is made without %s: %s", shown_url(url), error)
        return without
