"""Advice for errors of the system: too many open files, a full disk, and the like."""

from __future__ import annotations

import errno
import os

_ROOM = "Make room on the disk."
_ADVICE = {
    errno.EMFILE: "This process has as many files open as it may; close some, or allow more "
    "(`ulimit -n`).",
    errno.ENFILE: "This machine has as many files open as it may; end programs, or allow more.",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: f"{_ROOM} This user may not use more of it.",
    errno.ENOMEM: "This machine has no memory left; end programs that use much of it.",
    errno.EROFS: "It lies on a medium that can't be written; open it with read_only=True.",
}


def advice(number: int | None, otherwise: str) -> str:
    """Advise what to do about an error of the system.

    Args:
        number: The `errno` of the error.
        otherwise: The text for errors that are not about a limit of the system.

    Returns:
        The advice, as sentences for the user.
    """
    return _ADVICE.get(number or 0, otherwise)


def open_file_limit() -> int | None:
    """Find out if the process can open one more file, which SQLite does not report.

    Returns:
        The `errno` of the attempt; None if it works.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno
    return None
