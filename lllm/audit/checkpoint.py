"""Writes and reads checkpoints: how large a log was, and the root of its Merkle tree.

    origin      the name of the log
    size        how many events it had, decimal
    root        the root of its tree, base64

Each is a line that ends with a newline. More lines may follow as extensions: lllm writes none, and
keeps those of others. The format is C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint). With a
signature under it, a checkpoint is a signed note (see `signed_note`). Without one, it proves as
much as the place where it is kept can be trusted.
"""

from __future__ import annotations

import re

import msgspec

from lllm.audit.base64_text import decoded, encoded
from lllm.events.errors import AuditError
from lllm.events.integrity.merkle import EMPTY_ROOT, HASH_BYTES

MAX_SIZE = 2**63 - 1  # more events than any log takes

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class LogCheckpoint(msgspec.Struct, frozen=True):
    """The state of a log's Merkle tree at one time.

    Attributes:
        origin: The name of the log, one line.
        size: The number of events of the log, which are the leaves of the tree.
        root: The root of the tree, 32 bytes.
        extensions: Lines that others wrote after these three; they are kept as they are.

    Raises:
        AuditError: No tree has this size and root, or a text is not one line.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or any(character < " " for character in line):
                raise AuditError(
                    "The name of a log, and each extension of a checkpoint, is one line that is "
                    f"not empty and has no control characters; {line[:80]!r} is not."
                )
        if not 0 <= self.size <= MAX_SIZE:
            raise AuditError(f"A log can't have {self.size} events.")
        if len(self.root) != HASH_BYTES:
            raise AuditError(f"A root has {HASH_BYTES} bytes, and this one has {len(self.root)}.")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise AuditError("The checkpoint says that the log is empty, but its root is another.")

    def text(self) -> str:
        """Write the checkpoint as text, which is what is signed."""
        lines = (self.origin, str(self.size), encoded(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> LogCheckpoint:
    """Read a checkpoint.

    Args:
        text: The text of the checkpoint, without signatures.

    Returns:
        The checkpoint, whose `text()` is the given text.

    Raises:
        AuditError: The text is not a checkpoint; the message names the wrong line.
    """
    if not text.endswith("\n"):
        raise AuditError("A checkpoint ends with a newline; this one may be cut off.")
    lines = text[:-1].split("\n")
    if len(lines) < 3:
        raise AuditError(
            "A checkpoint has three lines, for the name of the log, its size and its root; here "
            f"there {'is' if len(lines) == 1 else 'are'} {len(lines)}."
        )
    origin, size, root, *extensions = lines
    if _DECIMAL.fullmatch(size) is None:
        raise AuditError(
            f"Line 2 of a checkpoint is the size of the log, a number without leading zeros; "
            f"{size[:80]!r} is not."
        )
    value = decoded(root)
    if value is None:
        raise AuditError(f"Line 3 of a checkpoint is its root in base64; {root[:80]!r} is not.")
    return LogCheckpoint(origin, int(size), value, tuple(extensions))
