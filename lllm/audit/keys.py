"""Makes, stores and reads the Ed25519 keys that checkpoints are signed with.

    public     <name>+<key id, 8 hex digits>+<base64 of 0x01 and the 32 bytes of the key>
    private    PRIVATE+KEY+<name>+<key id>+<base64 of 0x01 and the 32 bytes of the seed>
    key id     the first 4 bytes of SHA-256(name || newline || 0x01 || public key)

Public keys have the format of C2SP (https://c2sp.org/signed-note#verifier-keys), private keys that
of Go's `sumdb/note` (https://pkg.go.dev/golang.org/x/mod/sumdb/note), so other tools can read both.
A key has two files: `KEY`, which only its owner can read, and `KEY.pub`, which is for everybody.
Whoever has the private key can sign a false history. Keep it on another machine than the store, or
with another user.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Self

from lllm.audit import ed25519
from lllm.audit.base64_text import decoded, encoded
from lllm.audit.ed25519 import KEY_BYTES
from lllm.events.errors import AuditError
from lllm.events.files.permissions import FILE_MODE

PUBLIC_SUFFIX = ".pub"

# the types of signatures (https://c2sp.org/signed-note#signature-types)
_ED25519 = b"\x01"
COSIGNATURE = b"\x04"  # of a witness, with a time
_PRIVATE = "PRIVATE+KEY+"
_LONGEST = 4_096  # bytes of a key file; a key has about 100
_PUBLIC_MODE = 0o644
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PublicKey:
    """A public key, with which signatures are checked.

    Args:
        name: The name of the signer, for example "example.com/my-log"; no spaces and no "+".
        key: The key, 32 bytes.

    Attributes:
        name: The name of the signer.
        key: The key, 32 bytes.
        key_id: The 4 bytes that begin each signature of this key.

    Raises:
        AuditError: The name is not allowed, or the key has not 32 bytes.
    """

    __slots__ = ("key", "key_id", "name")
    _signs = _ED25519

    def __init__(self, name: str, key: bytes) -> None:
        check_name(name)
        if len(key) != KEY_BYTES:
            raise AuditError(f"An Ed25519 key has {KEY_BYTES} bytes, and this one has {len(key)}.")
        self.name = name
        self.key = key
        self.key_id = sha256(name.encode() + b"\n" + self._signs + key).digest()[:4]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encoded(self._signs + self.key)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a public key.

        Args:
            text: The line of a `.pub` file.

        Raises:
            AuditError: The text is no public key; perhaps it is a private one.
        """
        line = text.strip()
        if line.startswith(_PRIVATE):
            raise AuditError(
                "This is a private key. Signatures are checked with the public key, which is in "
                f"the file with {PUBLIC_SUFFIX} at the end of its name."
            )
        name, key_id, key = _parts(line, "public", cls._signs)
        public = cls(name, key)
        if public.key_id.hex() != key_id:
            raise AuditError(
                f"The public key {name!r} does not match its key id {key_id[:20]!r}: it was "
                "changed, or not copied completely."
            )
        return public

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Check a signature.

        Args:
            signature: The signature, 64 bytes.
            message: The bytes that should have been signed.

        Returns:
            True if the signature was made with the private key that belongs to this key.

        Raises:
            MissingExtra: The extra `audit` is not installed.
        """
        return ed25519.verifies(self.key, signature, message)


class PrivateKey:
    """A private key, with which checkpoints are signed. Its `repr` does not show the secret.

    Args:
        name: The name of the signer, as for PublicKey.
        seed: The private key of RFC 8032: 32 random bytes.

    Attributes:
        public: The public key, with which others check signatures of this one.

    Raises:
        AuditError: The name is not allowed, or the seed has not 32 bytes.
        MissingExtra: The extra `audit` is not installed.
    """

    __slots__ = ("_seed", "public")

    def __init__(self, name: str, seed: bytes) -> None:
        check_name(name)
        if len(seed) != KEY_BYTES:
            raise AuditError(f"An Ed25519 key has {KEY_BYTES} bytes, and this one has {len(seed)}.")
        self._seed = seed
        self.public = PublicKey(name, ed25519.public_key(seed))

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public}>"

    def __reduce__(self) -> str:
        raise TypeError("A private key can't be pickled; secret_text() returns it as text.")

    @classmethod
    def generate(cls, name: str) -> PrivateKey:
        """Make a new key.

        Args:
            name: The name of the signer, for example "example.com/my-log".

        Raises:
            AuditError: The name is not allowed for a key.
            MissingExtra: The extra `audit` is not installed.
        """
        return cls(name, os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> PrivateKey:
        """Read a private key.

        Args:
            text: The line of a key file, or of an environment variable.

        Raises:
            AuditError: The text is no private key. The message contains nothing of the text.
            MissingExtra: The extra `audit` is not installed.
        """
        line = text.strip()
        if not line.startswith(_PRIVATE):
            raise AuditError(f"This is not a private key: it does not begin with {_PRIVATE!r}.")
        name, key_id, seed = _parts(line.removeprefix(_PRIVATE), "private", _ED25519)
        private = cls(name, seed)
        if private.public.key_id.hex() != key_id:
            raise AuditError(
                "The private key does not match its key id: it was changed, or not copied "
                "completely."
            )
        return private

    def secret_text(self) -> str:
        """Write the private key as the line of its file."""
        return (
            f"{_PRIVATE}{self.public.name}+{self.public.key_id.hex()}+"
            f"{encoded(_ED25519 + self._seed)}"
        )

    def sign(self, message: bytes) -> bytes:
        """Sign a message (Ed25519, https://www.rfc-editor.org/rfc/rfc8032).

        Args:
            message: The bytes to sign.

        Returns:
            The signature, 64 bytes.
        """
        return ed25519.sign(self._seed, message)


def write_key_files(path: Path, key: PrivateKey) -> Path:
    """Write a new key to its two files. An existing file is never replaced.

    Args:
        path: The path of the private key, which only its owner will be able to read. The public key
            is written beside it, with ".pub" at the end of its name.
        key: The key to write.

    Returns:
        The path of the public key's file.

    Raises:
        AuditError: One of the files exists already.
        OSError: A file can't be written.
    """
    public = public_path(path)
    for one in (path, public):
        if os.path.lexists(one):
            raise AuditError(
                f"{one} exists already. Keys are never replaced, because a lost key can't be "
                "restored: give another path, or move that file away."
            )
    _write_new(path, key.secret_text(), FILE_MODE)
    _write_new(public, str(key.public), _PUBLIC_MODE)
    return public


def public_path(path: Path) -> Path:
    """Return the path of the public key that belongs to a private key's file.

    Args:
        path: The path of the private key.
    """
    return path.with_name(path.name + PUBLIC_SUFFIX)


def read_private_key(path: Path) -> PrivateKey:
    """Read the private key in a file, which only its owner may be able to read.

    Args:
        path: The path of the file.

    Raises:
        AuditError: The file has no private key, or others than its owner may read it.
        MissingExtra: The extra `audit` is not installed.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OTHERS:
            raise AuditError(
                f"Others than its owner can read or change the private key {path} (mode "
                f"{mode:04o}). If nobody has, forbid it: chmod 600 {path}"
            )
        content = file.read(_LONGEST + 1)
    with _named(str(path)):
        return PrivateKey.parse(_text(content))


def read_public_key(path: Path) -> PublicKey:
    """Read the public key in a file.

    Args:
        path: The path of the file.

    Raises:
        AuditError: The file has no public key.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    with _named(str(path)):
        return PublicKey.parse(_text(content))


def private_key_in_environment(variable: str) -> PrivateKey:
    """Read the private key in an environment variable.

    Args:
        variable: The name of the variable.

    Raises:
        AuditError: The variable is not set, or has no private key.
        MissingExtra: The extra `audit` is not installed.
    """
    text = os.environ.get(variable)
    if not text:
        raise AuditError(f"The environment variable {variable} holds no private key; it is empty.")
    with _named(f"In the environment variable {variable}"):
        return PrivateKey.parse(text)


def check_name(name: str) -> None:
    """Check that a text is allowed as the name of a key.

    Args:
        name: The name to check.

    Raises:
        AuditError: The name is not allowed: it is empty, or has spaces or a "+".
    """
    if not name or "+" in name or any(one.isspace() or one < " " for one in name):
        raise AuditError(
            "The name of a key must not be empty, and must not contain spaces or '+', for example "
            f"'example.com/my-log'; {name!r} is not allowed."
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AuditError(f"The name of the key, {name!r}, can't be written in UTF-8.") from None


def _parts(line: str, kind: str, signs: bytes) -> tuple[str, str, bytes]:
    """Split the text of a key into name, key id and the bytes of the key."""
    # A name never contains "+"; base64 may.
    parts = line.split("+", 2)
    value = decoded(parts[2]) if len(parts) == 3 else None
    if value is None or not value:
        raise AuditError(
            f"This is not a {kind} key: it must be a name, a key id and a key in base64, with '+' "
            "between them."
        )
    if value[:1] != signs:
        raise AuditError(
            f"The {kind} key is of the type {value[0]}, and one of the type {signs[0]} is needed "
            "here: 1 is the key of a log, 4 that of a witness, both for Ed25519."
        )
    return parts[0], parts[1], value[1:]


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Add to an error the place where the key was read."""
    try:
        yield
    except AuditError as error:
        raise AuditError(f"{place}: {error}") from error


def _text(content: bytes) -> str:
    if len(content) > _LONGEST:
        raise AuditError("It is too long for a key file.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise AuditError("It is not a key file, which would be UTF-8 text.") from None


def _write_new(path: Path, line: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)  # whatever the umask
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(fd)
