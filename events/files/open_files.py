"""Syncs and copies files that SQLite may have open, without opening them in this process.

If a process opens a file that SQLite has open, and closes it again, SQLite's locks on it are lost:
POSIX releases all locks of a process on a file when the process closes any descriptor of it
(https://sqlite.org/howtocorrupt.html, section 2.2). So SQLite's own descriptor is used, or another
process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import make_new

_DESCRIPTORS = "/dev/fd"  # lists the open descriptors of this process, on Linux and macOS
_COPY = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"


def sync_open_file(path: str, descriptor: int) -> int:
    """Flush a file that this process already has open to the disk.

    Nothing happens if it is not open, or if the sync fails.

    Args:
        path: The path of the file.
        descriptor: The descriptor that was used the last time, which is tried first; -1 for none.

    Returns:
        The descriptor that was used; -1 if there was none.
    """
    with suppress(OSError, ValueError):
        found = os.stat(path)
        wanted = found.st_dev, found.st_ino
        for number in _descriptors(descriptor):
            with suppress(OSError):  # it was closed meanwhile
                seen = os.fstat(number)
                if (seen.st_dev, seen.st_ino) == wanted:
                    # If another file has just got this number, that file is synced, which does no
                    # harm.
                    os.fsync(number)
                    return number
    return -1


def _descriptors(first: int) -> Iterator[int]:
    if first >= 0:
        yield first
    yield from map(int, os.listdir(_DESCRIPTORS))


def copy_by_another_process(original: str, copy: Path) -> None:
    """Copy a file that may be open here, in a subprocess; only its owner may read the copy.

    Args:
        original: The file to copy.
        copy: The file to create.

    Raises:
        LogUnavailable: The original can't be read.
        OSError: The copy can't be written.
    """
    make_new(copy).close()  # replaces a file of this name; a link there is not followed
    command = [sys.executable, "-I", "-S", "-c", _COPY, original, str(copy)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode != 0:
        last = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise LogUnavailable(f"{original} can't be copied to be read: {last}")
