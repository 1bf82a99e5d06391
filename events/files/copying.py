"""Copies the files of a log to disk, and reports errors of the destination as such.

Bytes are copied to the disk, for those who may read the original, and the errors of the copy's disk
are told as such.
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

_BLOCK = 1 << 20  # bytes of a file read at once


class CopyFailed(LogError):
    """Writing a copy failed; the original is fine. `__cause__` is the system's error."""


@contextmanager
def apart_from_original() -> Iterator[None]:
    """A `with` for steps that touch only the copy, inside one for the original.

    Raises:
        CopyFailed: The disk of the copy refused.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise CopyFailed(str(error)) from error


@contextmanager
def copy_errors(path: Path) -> Iterator[None]:
    """A `with` that raises errors of a backup's disk as LogUnavailable.

    Args:
        path: The backup.

    Raises:
        LogUnavailable: The disk refused.
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
        original: The file.
        copy: The file to make.
        limit: How many bytes are copied, None for all.

    Yields:
        How many bytes are copied so far.

    Raises:
        OSError: It can't be read or written.
    """
    copied = 0
    with open_to_read(original) as reading, make_new(copy) as writing:
        while block := reading.read(_BLOCK if limit is None else min(_BLOCK, limit - copied)):
            writing.write(block)
            copied += len(block)
            yield copied
    finish(original, copy)


def finish(original: Path, copy: Path) -> None:
    """Flush a copied file to the disk, and give it the original's permissions.

    Args:
        original: The file.
        copy: The copy.

    Raises:
        OSError: The disk refuses.
    """
    with FileIO(open_own(copy, os.O_RDWR), "r+") as file:
        sync(file)
    permit(original, copy)


def permit(original: Path, copy: Path) -> None:
    """Give a copy the original's permissions; its owner may write it.

    Args:
        original: The file or folder.
        copy: The copy.
    """
    owner = stat.S_IRWXU if copy.is_dir() else stat.S_IRUSR | stat.S_IWUSR
    copy.chmod(stat.S_IMODE(original.stat().st_mode) | owner)
