"""Names the definitions of agents, so that each is written once to a log.

A definition's stream is named by an HMAC of its content under a secret that lies beside the log,
among its locks, and not in it. So whoever has the log can't test guesses at a definition that was
erased: then the secret is replaced, too, and what is used again gets another name. A log without a
place for the secret has one for each process, and may get a definition once from each.

Known trade-off (accepted): a session that begins to use a definition in the moment in which an
erasure drops it, as that of its last user, may refer to what is gone.
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
    """The agent definitions that one log is known to contain, and the secret that names them.

    Args:
        file: Where the secret lies, made where it is missing; None for a secret of this process.
        mode: The permissions of the file.

    Attributes:
        known: The streams of definitions that the log has.
    """

    def __init__(self, file: Path | None = None, *, mode: int = FILE_MODE) -> None:
        self.known: set[str] = set()
        self._file = file
        self._mode = mode
        self._secret = secrets.token_bytes(_BYTES)
        self._read: tuple[int, int] | None = None  # which file the secret was read from

    def name_of(self, data: bytes) -> str:
        """Name the stream of a definition.

        Args:
            data: Its payload, without a salt.
        """
        if self._file is not None:
            with suppress(OSError, LogError):  # else the secret is this process's own
                self._follow(self._file)
        return PREFIX + hmac.new(self._secret, data, "sha256").hexdigest()

    def renew(self) -> None:
        """Name definitions anew from now on, so that erased ones are written again when used.

        Raises:
            OSError: The secret can't be replaced.
        """
        if self._file is not None:
            replace_secret(self._file)
        self._secret = secrets.token_bytes(_BYTES)
        self._read = None
        self.known.clear()

    def _follow(self, file: Path) -> None:
        """Read the secret if another file has taken its place, and forget what is known by it."""
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
    """The file with the secret of a log; None where the log has no folder for locks.

    Args:
        locks: That folder.
    """
    return None if locks is None else locks / "definitions.key"


def replace_secret(file: Path) -> None:
    """Put another secret in the place of the one there, and overwrite that.

    Args:
        file: Where it lies; where there is none, nothing is done.

    Raises:
        OSError: It can't be written.
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
    """Make the file in one step, so that nobody reads half of it, or another than others do."""
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
