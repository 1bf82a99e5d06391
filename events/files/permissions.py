"""Sets the permissions of a store's files.

These files contain what people wrote, so only their owner can read and write new files, independent
of the umask. For a store that a team shares, pass `mode=0o660`. Existing files keep their
permissions. If a shared store is opened without a mode, new files get the permissions of the
existing ones, because otherwise the other users could not continue to write.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700

_OTHERS_MAY = 0o066


def checked_mode(mode: int | None) -> int | None:
    """Check that a mode is allowed for a store's files.

    Args:
        mode: The user's argument; None for the default.

    Returns:
        The same mode.

    Raises:
        ValueError: It is not a mode with which the owner can read and write.
    """
    if mode is None:
        return None
    if type(mode) is not int or mode & ~0o666 or mode & FILE_MODE != FILE_MODE:
        told = oct(mode) if isinstance(mode, int) else repr(mode)
        raise ValueError(
            "mode is the permissions of a store's files, and its owner must read and write them, "
            f"as 0o600 or 0o660; {told} is not."
        )
    return mode


def folder_mode(mode: int) -> int:
    """Derive the permissions of a store's folders from those of its files.

    If the group or others have access, new files in the folder belong to the folder's group (the
    bit 0o2000, setgid).

    Args:
        mode: The permissions of the files.

    Returns:
        The permissions of the folders.
    """
    return mode | (mode & 0o444) >> 2 | (stat.S_ISGID if mode & _OTHERS_MAY else 0)


def mode_like(*places: Path) -> int:
    """Find the mode for new files from the existing files of a store.

    Args:
        places: Folders or files of the store; the first that exists is used.

    Returns:
        FILE_MODE, with access for the group and others if they can write to the existing file.
    """
    for place in places:
        with suppress(OSError):
            return mode_like_found(os.stat(place).st_mode)
    return FILE_MODE


def mode_like_found(found: int) -> int:
    """Find the mode for new files from the mode of an existing file.

    Args:
        found: The `st_mode` of the existing file.

    Returns:
        The mode for new files.
    """
    if found & stat.S_ISVTX or not found & (stat.S_IWGRP | stat.S_IWOTH):
        return FILE_MODE
    return FILE_MODE | (found & _OTHERS_MAY)


def permit(fd: int, mode: int) -> None:
    """Set the permissions of a new file or folder, which the umask may have reduced.

    Nothing happens on a file system without permissions.

    Args:
        fd: A descriptor of the file or folder.
        mode: The permissions to set, as 0o600.
    """
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        with suppress(OSError):
            os.fchmod(fd, mode)
