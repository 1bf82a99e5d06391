"""Sets the permissions of a store's files.

They hold what people said, so what lllm makes is its owner's alone, whatever the umask. A store
that a team shares is made with `mode=0o660`. What is there already is left as it is, and whoever
opens a shared store without a mode makes new files as those that are there, or the others could
not go on writing.
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
    """Check that a mode is allowed for a store's files, and return it.

    Args:
        mode: What a user gave, None for nothing.

    Raises:
        ValueError: It is none.
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
    """The permissions of a store's folders, derived from the mode of its files.

    Where a group or others have a part in it, what is made in the folder belongs to the folder's
    group (the bit 0o2000).

    Args:
        mode: Of the files.
    """
    return mode | (mode & 0o444) >> 2 | (stat.S_ISGID if mode & _OTHERS_MAY else 0)


def mode_like(*places: Path) -> int:
    """The mode of new files, taken from the first of some places that exists.

    Args:
        places: Folders or files of the store; the first that exists tells.

    Returns:
        FILE_MODE, and where others than its owner may write there, what they may.
    """
    for place in places:
        with suppress(OSError):
            return mode_like_found(os.stat(place).st_mode)
    return FILE_MODE


def mode_like_found(found: int) -> int:
    """The mode of new files, from an existing file beside them.

    Args:
        found: What the system says of that (`st_mode`).
    """
    if found & stat.S_ISVTX or not found & (stat.S_IWGRP | stat.S_IWOTH):
        return FILE_MODE
    return FILE_MODE | (found & _OTHERS_MAY)


def permit(fd: int, mode: int) -> None:
    """Set the permissions of a new file or folder, which the umask may have reduced.

    Where a file system has none, nothing happens.

    Args:
        fd: A descriptor of it.
        mode: Its permissions.
    """
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        with suppress(OSError):
            os.fchmod(fd, mode)
