"""Copies the files of a log to disk, and reports errors of the destination as such.

Copies get the permissions of the original and are synced to the disk.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from lllm.events.errors import LogError, LogUnavailable
from lllm.events.files.own_files import make_new, open_own, open_to_read, sync

_BLOCK = 1 << 20  # bytes of a file that are read at once


class CopyFailed(LogError):
    """Writing a copy failed; the original is unharmed. `__cause__` is the error of the system."""


@contextmanager
def apart_from_original() -> Iterator[None]:
    """A context manager for steps that touch only the copy, inside one for the original.

    Raises:
        CopyFailed: The copy can't be written.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise CopyFailed(str(error)) from error


@contextmanager
def copy_errors(path: Path) -> Iterator[None]:
    """A context manager that raises LogUnavailable if a backup can't be written.

    Args:
        path: The path of the backup.

    Raises:
        LogUnavailable: The backup can't be written.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError, CopyFailed) as raised:
        error = raised.__cause__ if isinstance(raised, CopyFailed) else raised
        if isinstance(error, LogError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise LogUnavailable(
            f"The backup to {path} could not be made: {reason}. Nothing is left of it. Is there "
            "space left, and may the folder be written?"
        ) from error


def copy_bytes(original: Path, copy: Path, limit: int | None = None) -> Iterator[int]:
    """Copy a file and flush the copy to the disk.

    Args:
        original: The file to copy.
        copy: The file to create.
        limit: How many bytes to copy; None for all.

    Yields:
        The number of bytes copied so far.

    Raises:
        OSError: A file can't be read or written.
    """
    copied = 0
    with open_to_read(original) as reading, make_new(copy) as writing:
        while block := reading.read(_BLOCK if limit is None else min(_BLOCK, limit - copied)):
            writing.write(block)
            copied += len(block)
            yield copied
    finish(original, copy)


def finish(original: Path, copy: Path) -> None:
    """Sync a copied file to the disk, and give it the original's permissions.

    Args:
        original: The file that was copied.
        copy: The new file, which is complete.

    Raises:
        OSError: The copy can't be synced or changed.
    """
    with FileIO(open_own(copy, os.O_RDWR), "r+") as file:
        sync(file)
    permit(original, copy)


def permit(original: Path, copy: Path) -> None:
    """Give a copy the original's permissions, and let its owner write it.

    Args:
        original: The original file or folder.
        copy: The copied file or folder.
    """
    owner = stat.S_IRWXU if copy.is_dir() else stat.S_IRUSR | stat.S_IWUSR
    copy.chmod(stat.S_IMODE(original.stat().st_mode) | owner)
