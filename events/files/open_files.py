"""Syncs and copies files that SQLite may have open, without opening them in this process.

Whoever opens a file that SQLite has open and closes it again takes SQLite's locks on it away: POSIX
drops all that a process holds on a file when it closes any descriptor of it
(https://sqlite.org/howtocorrupt.html, 2.2). So its own descriptor is used, or another process.
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

_DESCRIPTORS = "/dev/fd"  # the open descriptors of the process that looks; Linux and macOS have it
_COPY = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"


def sync_open_file(path: str, descriptor: int) -> int:
    """Flush a file that this process has open to the disk.

    Nothing happens where it has not, or the disk refuses.

    Args:
        path: The file.
        descriptor: The one that was found the last time, which is tried first; -1 for none.

    Returns:
        The descriptor that was used, -1 where there was none.
    """
    with suppress(OSError, ValueError):
        found = os.stat(path)
        wanted = found.st_dev, found.st_ino
        for number in _descriptors(descriptor):
            with suppress(OSError):  # closed meanwhile
                seen = os.fstat(number)
                if (seen.st_dev, seen.st_ino) == wanted:
                    # Should another file have got the number just now, that one is put on the disk.
                    os.fsync(number)
                    return number
    return -1


def _descriptors(first: int) -> Iterator[int]:
    if first >= 0:
        yield first
    yield from map(int, os.listdir(_DESCRIPTORS))


def copy_by_another_process(original: str, copy: Path) -> None:
    """Copy a file that may be open here, by a subprocess; only its owner may read it.

    Args:
        original: The file.
        copy: The file to make.

    Raises:
        LogUnavailable: It can't be read.
        OSError: The copy can't be made.
    """
    make_new(copy).close()  # in place of whatever has the name; a link there is not followed
    command = [sys.executable, "-I", "-S", "-c", _COPY, original, str(copy)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode != 0:
        last = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise LogUnavailable(f"{original} can't be copied to be read: {last}")
