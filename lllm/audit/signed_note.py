"""Writes, reads and checks signed notes: a text with signatures under it.

    the text, which ends with a newline
    (an empty line)
    — <name of the key> <base64 of the key's id and the signature>

The format is C2SP signed-note (https://c2sp.org/signed-note), with its Ed25519 signatures.
Signatures of unknown keys are kept but not checked, so others can sign the same note.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.audit.base64_text import decoded, encoded
from lllm.audit.keys import PrivateKey, PublicKey, check_name
from lllm.events.errors import AuditError, SignatureInvalid

MAX_BYTES = 1_000_000  # of a note; longer ones are refused before they are read
MAX_SIGNATURES = 100

_DASH = "\N{EM DASH} "
_KEY_ID_BYTES = 4


class Signature(msgspec.Struct, frozen=True):
    """A signature under a note.

    Attributes:
        name: The name of the key that made the signature.
        key_id: The id of that key, 4 bytes.
        signature: The signature itself.
    """

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Write the signature as its line of a note."""
        return f"{_DASH}{self.name} {encoded(self.key_id + self.signature)}\n"


class SignedNote(msgspec.Struct, frozen=True):
    """A text and the signatures under it, none of which has been checked yet.

    Attributes:
        text: The signed text; it ends with a newline.
        signatures: The signatures, at least one.
    """

    text: str
    signatures: tuple[Signature, ...]

    def content(self) -> str:
        """Write the note as the content of a file, in UTF-8."""
        return f"{self.text}\n{''.join(one.line() for one in self.signatures)}"


def sign_note(text: str, *keys: PrivateKey) -> SignedNote:
    """Sign a text.

    Args:
        text: The text to sign; it must end with a newline.
        *keys: The keys to sign with.

    Raises:
        AuditError: The text has no newline at its end, or has control characters.
        MissingExtra: The extra `audit` is not installed.
    """
    _check_text(text)
    message = text.encode()
    signatures = (Signature(key.public.name, key.public.key_id, key.sign(message)) for key in keys)
    return SignedNote(text, tuple(signatures))


def is_signed(content: bytes) -> bool:
    """Return True if the content of a file is a text with signatures under it.

    Args:
        content: The content of the file.
    """
    return f"\n\n{_DASH}".encode() in content


def parse_note(content: bytes) -> SignedNote:
    """Read a signed note without checking its signatures.

    Args:
        content: The content of the file.

    Returns:
        The note, whose `content()` is the given content.

    Raises:
        AuditError: The content is not a signed note; the message says what is wrong.
    """
    whole = decode_text(content)
    text, found, lines = whole.rpartition("\n\n")
    if not found or not lines.startswith(_DASH):
        raise AuditError(
            "This is not a signed note: after the text and an empty line, it must have lines of "
            "signatures, which begin with an em dash and a space."
        )
    if not lines.endswith("\n"):
        raise AuditError("The last line of a signed note ends with a newline; it may be cut off.")
    signatures = tuple(map(parse_signature, lines[:-1].split("\n")))
    if len(signatures) > MAX_SIGNATURES:
        raise AuditError(
            f"At most {MAX_SIGNATURES} signatures of a note are read; here there are "
            f"{len(signatures)}."
        )
    _check_text(f"{text}\n")
    return SignedNote(f"{text}\n", signatures)


def decode_text(content: bytes) -> str:
    """Decode the content of a file that should be a note or a checkpoint.

    Args:
        content: The content of the file.

    Raises:
        AuditError: It is too long, not UTF-8, or has control characters.
    """
    if len(content) > MAX_BYTES:
        raise AuditError(f"A note has at most {MAX_BYTES:,} bytes; this one has {len(content):,}.")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise AuditError(
            f"A note is UTF-8 text; from byte {error.start} on this one is not."
        ) from error
    if "\r" in text:
        raise AuditError(
            "The lines of a note end with a newline alone; here there are carriage returns, which "
            "a transfer or an editor may have put in."
        )
    _check_text(text, ends=False)
    return text


def verify_note(note: SignedNote, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """Check the signatures of a note that were made with known keys.

    Args:
        note: The note to check.
        keys: The keys that the reader trusts.

    Returns:
        The keys that signed the note, at least one.

    Raises:
        SignatureInvalid: A signature of a given key does not fit the text, or none of the given
            keys signed it. The text must not be trusted then.
        MissingExtra: The extra `audit` is not installed.
    """
    known = {(key.name, key.key_id): key for key in keys}
    message = note.text.encode()
    signers: dict[PublicKey, None] = {}
    for one in note.signatures:
        key = known.get((one.name, one.key_id))
        if key is None:
            continue
        if not key.verifies(one.signature, message):
            raise SignatureInvalid(
                f"The signature of {key.name!r} does not fit the text: the text or the signature "
                "was changed, or somebody else signed in this name."
            )
        signers[key] = None
    if not signers:
        raise SignatureInvalid(
            f"None of the given keys signed this. Given: {_listed(keys)}. Signed by: "
            f"{_listed(note.signatures)}."
        )
    return tuple(signers)


def _listed(those: Sequence[PublicKey] | Sequence[Signature]) -> str:
    return ", ".join(dict.fromkeys(f"{one.name}+{one.key_id.hex()}" for one in those)) or "none"


def parse_signature(line: str) -> Signature:
    """Read the line of a signature.

    Args:
        line: The line, without its newline.

    Raises:
        AuditError: The line is not a signature.
    """
    parts = line.removeprefix(_DASH).split(" ")
    value = decoded(parts[1]) if line.startswith(_DASH) and len(parts) == 2 else None
    if value is None or len(value) <= _KEY_ID_BYTES:
        raise AuditError(
            f"Each line of a signature is an em dash, a name and base64, with spaces between; "
            f"{line[:80]!r} is not."
        )
    check_name(parts[0])
    return Signature(parts[0], value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:])


def _check_text(text: str, *, ends: bool = True) -> None:
    if ends and not text.endswith("\n"):
        raise AuditError("The text of a note ends with a newline.")
    for character in text:
        if character < " " and character != "\n":
            raise AuditError(
                f"A note has no control characters but newlines; this one has {character!r}."
            )
