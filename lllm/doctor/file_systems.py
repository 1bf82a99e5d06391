"""Finds the free space, the file system and the permissions of a store's folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

# As /proc/mounts names them. SQLite's WAL wants all its processes on one machine
# (https://sqlite.org/wal.html), and locks on such file systems may not hold.
_NETWORKED = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "s3fs", "smb3", "smbfs", "sshfs", "rclone", "gcsfuse",
})  # fmt: skip
_OCTAL = re.compile(r"\\([0-7]{3})")  # how /proc/mounts writes spaces and line ends


class StoreLocation(msgspec.Struct, frozen=True):
    """The folder that holds the files of a store.

    Attributes:
        folder: Its path.
        free_bytes: That this user may still fill.
        file_system: Its type, None where that can't be told.
        writable: True if this process may write what an append writes.
        folder_mode: The permissions of the folder.
        file_modes: Those of the files in it.
    """

    folder: str
    free_bytes: int
    file_system: str | None
    writable: bool
    folder_mode: int = 0o700
    file_modes: tuple[int, ...] = ()

    @property
    def networked(self) -> bool:
        """True if other machines may also write to this folder."""
        return (self.file_system or "").removeprefix("fuse.") in _NETWORKED


def location_of(folder: Path, files: Iterable[Path]) -> StoreLocation:
    """Examine the folder of a store.

    Args:
        folder: The folder.
        files: Those in it that an append writes, whether they are there or not.

    Returns:
        What there is to say of it.

    Raises:
        OSError: It can't be looked at.
    """
    mounts = ""
    with suppress(OSError):  # Linux alone has it
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    needed = [folder, *(file for file in files if file.exists())]
    return StoreLocation(
        folder=str(folder),
        free_bytes=shutil.disk_usage(folder).free,
        file_system=file_system(folder, mounts),
        folder_mode=stat.S_IMODE(folder.stat().st_mode),
        file_modes=tuple(stat.S_IMODE(one.stat().st_mode) for one in needed if one.is_file()),
        writable=all(os.access(one, os.W_OK) for one in needed),
    )


def file_system(folder: Path, mounts: str) -> str | None:
    """Find the type of a folder's file system.

    Args:
        folder: The folder.
        mounts: The text of /proc/mounts, whose fields proc(5) and fstab(5) tell
            (https://man7.org/linux/man-pages/man5/proc_mounts.5.html).

    Returns:
        As "ext4"; None where it is not among the mounts.
    """
    real = folder.resolve()
    found, depth = None, 0
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        # Of several on one point, the last covers those before.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    return found
