"""Names the definitions of agents, so that a log has each of them only once.

The stream of a definition is named by an HMAC of its content. The key is a secret that is stored
beside the log, in the lock folder, and not in the log. So the name of an erased definition can't be
used to test guesses at its content: at an erasure the secret is replaced, too, and definitions that
are used again get other names. Without a lock folder, each process has a secret of its own, so the
log may get the same definition once from each process.

Known trade-off (accepted): if a session begins to use a definition at the moment at which an
erasure of its last user removes it, the session refers to a definition that is gone.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from lllm.events.errors import LogError
from lllm.events.files.own_files import make_new, open_own, read_own, sync, sync_folder
from lllm.events.files.permissions import FILE_MODE
from lllm.events.ids import new_id

PREFIX = "definition-"
_BYTES = 32


class Definitions:
    """The agent definitions that one log is known to contain, and the secret for their names.

    Args:
        file: The file with the secret; created if it does not exist. None for a secret of this
            process.
        mode: The permissions of the file, as 0o600.

    Attributes:
        known: The streams of the definitions that the log is known to contain.
    """

    def __init__(self, file: Path | None = None, *, mode: int = FILE_MODE) -> None:
        self.known: set[str] = set()
        self._file = file
        self._mode = mode
        self._secret = secrets.token_bytes(_BYTES)
        self._read: tuple[int, int] | None = None  # the file from which the secret was read

    def name_of(self, data: bytes) -> str:
        """Make the name of a definition's stream.

        Args:
            data: The payload of the definition, without its salt.

        Returns:
            The name.
        """
        if self._file is not None:
            with suppress(OSError, LogError):  # otherwise the secret belongs to this process
                self._follow(self._file)
        return PREFIX + hmac.new(self._secret, data, "sha256").hexdigest()

    def renew(self) -> None:
        """Replace the secret, so that erased definitions are written again when they are used.

        Raises:
            OSError: The secret can't be replaced.
        """
        if self._file is not None:
            replace_secret(self._file)
        self._secret = secrets.token_bytes(_BYTES)
        self._read = None
        self.known.clear()

    def _follow(self, file: Path) -> None:
        """Read the secret again if its file was replaced, and forget the known names."""
        try:
            found = os.stat(file)
        except FileNotFoundError:
            _make(file, self._mode, replace=False)
            found = os.stat(file)
        if self._read != (found.st_ino, found.st_mtime_ns):
            self._secret = read_own(file)
            self._read = found.st_ino, found.st_mtime_ns
            self.known.clear()


def secret_file(locks: Path | None) -> Path | None:
    """Make the path of the file with a log's secret.

    Args:
        locks: The lock folder of the log; None if it has none.

    Returns:
        The path; None without a lock folder.
    """
    return None if locks is None else locks / "definitions.key"


def replace_secret(file: Path) -> None:
    """Replace the secret in a file by another one, and overwrite the old one.

    Args:
        file: The file with the secret; if it does not exist, nothing is done.

    Raises:
        OSError: The file can't be written.
    """
    try:
        fd = open_own(file, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        _make(file, os.fstat(fd).st_mode & 0o777, replace=True)
        os.pwrite(fd, bytes(_BYTES), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def _make(file: Path, mode: int, *, replace: bool) -> None:
    """Create the file in one step, so that all processes read the same, complete secret."""
    draft = file.with_name(f"{file.name}.{new_id()}")
    try:
        with make_new(draft, mode=mode) as opened:
            opened.write(secrets.token_bytes(_BYTES))
            sync(opened)
        if replace:
            os.replace(draft, file)
        else:
            with suppress(FileExistsError):
                os.link(draft, file)
        sync_folder(file.parent)
    finally:
        draft.unlink(missing_ok=True)
