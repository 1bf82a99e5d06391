"""Checks the cosignatures of witnesses under a checkpoint.

A witness is a service that somebody else runs. It remembers the last checkpoint of each log that it
cosigned, and cosigns a new one only with a proof that the log has merely grown since. Its
cosignature is a line under the signed note (https://c2sp.org/tlog-cosignature):

    key id     the first 4 bytes of SHA-256(name || newline || 0x04 || public key)
    signature  seconds since 1970, 8 bytes big-endian || Ed25519 signature, 64 bytes
    signed     "cosignature/v1", "time <seconds>", each with a newline, and the text of the note
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

from lllm.audit.keys import COSIGNATURE, PublicKey
from lllm.audit.signed_note import Signature, SignedNote
from lllm.audit.verdict import AnchorCheck
from lllm.events.errors import AuditError

_TIME_BYTES = 8
_BYTES = _TIME_BYTES + 64
_LONGEST = 1 << 20  # bytes of a file of keys


class WitnessKey(PublicKey):
    """The public key of a witness, as the witness publishes it.

    Args:
        name: The name of the witness, as "witness.example/w1".
        key: The Ed25519 key, 32 bytes.
    """

    __slots__ = ()
    _signs = COSIGNATURE

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Check a cosignature.

        Args:
            signature: The time and the signature, 72 bytes.
            message: The text of the checkpoint.

        Returns:
            True if the witness cosigned this checkpoint at the time in the signature.

        Raises:
            MissingExtra: The extra `audit` is not installed.
        """
        if len(signature) != _BYTES:
            return False
        signed = f"cosignature/v1\ntime {_seconds(signature)}\n".encode() + message
        return super().verifies(signature[_TIME_BYTES:], signed)


def read_witness_keys(given: str) -> tuple[WitnessKey, ...]:
    """Read the public keys of witnesses, from a text or a file.

    Args:
        given: A key, or the path of a file with one key a line. Empty lines and lines that begin
            with # are ignored.

    Returns:
        The keys, at least one.

    Raises:
        AuditError: The text is neither a key nor the path of a file, or the file has a line that is
            no key.
        OSError: The file can't be read.
    """
    path = Path(given)
    if not path.is_file():
        try:
            return (WitnessKey.parse(given),)
        except AuditError as error:
            raise AuditError(f"{given} is neither an existing file nor a key: {error}") from error
    with path.open("rb") as file:
        content = file.read(_LONGEST)
    try:
        lines = [line.strip() for line in content.decode().splitlines()]
        keys = [WitnessKey.parse(line) for line in lines if line and not line.startswith("#")]
    except (AuditError, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: {error}") from error
    if not keys:
        raise AuditError(f"{path}: the file has no key.")
    return tuple(keys)


def is_cosignature(signature: Signature) -> bool:
    """Return True if a signature is as long as a cosignature; a log's own signature is shorter.

    Args:
        signature: A signature under a note.

    Returns:
        True for a cosignature.
    """
    return len(signature.signature) == _BYTES


def check_cosignatures(note: SignedNote | None, keys: Sequence[WitnessKey]) -> list[AnchorCheck]:
    """Check which witnesses cosigned a checkpoint.

    Args:
        note: The signed checkpoint; None for a checkpoint without any signature.
        keys: The keys of trusted witnesses. If there are any, cosignatures of others are ignored
            (https://c2sp.org/tlog-witness).

    Returns:
        One result for each trusted witness; without trusted witnesses, one for each cosignature.

    Raises:
        MissingExtra: Keys are given, and the extra `audit` is not installed.
    """
    signatures = [] if note is None else [one for one in note.signatures if is_cosignature(one)]
    if not keys:
        return list(_unknown(signatures))
    text = b"" if note is None else note.text.encode()
    return [_check(key, signatures, text) for key in dict.fromkeys(keys)]


def _unknown(signatures: Sequence[Signature]) -> Iterator[AnchorCheck]:
    for name in dict.fromkeys(one.name for one in signatures):
        yield AnchorCheck(
            "cosignature", name, "unknown",
            f"it says that {name} cosigned it; the key of this witness was not given to check that "
            "(--witness-key)",
        )  # fmt: skip


def _check(key: WitnessKey, signatures: Sequence[Signature], text: bytes) -> AnchorCheck:
    ours = [one for one in signatures if (one.name, one.key_id) == (key.name, key.key_id)]
    if not ours:
        return AnchorCheck(
            "cosignature", key.name, "unknown", f"it has no cosignature of {key.name}"
        )
    if not all(key.verifies(one.signature, text) for one in ours):
        says = f"the cosignature of {key.name} does not match it"
        return AnchorCheck("cosignature", key.name, "wrong", says)
    seconds = min(_seconds(one.signature) for one in ours)
    time, at = _time(seconds)
    return AnchorCheck(
        "cosignature", key.name, "good",
        f"{key.name} saw the log just grow up to it, and it existed at {at} at the latest; it "
        "doesn't say how much earlier",
        time,
    )  # fmt: skip


def _seconds(signature: bytes) -> int:
    return int.from_bytes(signature[:_TIME_BYTES], "big")


def _time(seconds: int) -> tuple[dt.datetime | None, str]:
    try:
        time = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None, f"{seconds} seconds since 1970"
    return time, f"{time:%Y-%m-%d %H:%M:%S} UTC"
