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

# Names of network file systems in /proc/mounts. SQLite's WAL requires that all processes are on one
# machine (https://sqlite.org/wal.html), and locks on such file systems may not hold.
_NETWORKED = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "s3fs", "smb3", "smbfs", "sshfs", "rclone", "gcsfuse",
})  # fmt: skip
_OCTAL = re.compile(r"\\([0-7]{3})")  # how /proc/mounts writes spaces and line ends


class StoreLocation(msgspec.Struct, frozen=True):
    """The folder that holds the files of a store.

    Attributes:
        folder: The path of the folder.
        free_bytes: The free space that this user may fill, in bytes.
        file_system: The type of the file system, such as "ext4"; None if unknown.
        writable: True if this process may write the files that an append writes.
        folder_mode: The permissions of the folder.
        file_modes: The permissions of the store's files in it.
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
        folder: The folder to examine.
        files: The files that an append writes; they need not exist.

    Returns:
        The facts about the folder.

    Raises:
        OSError: The folder can't be read.
    """
    mounts = ""
    with suppress(OSError):  # only Linux has it
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
        folder: The folder to look up.
        mounts: The text of /proc/mounts, whose fields are documented in proc(5) and fstab(5)
            (https://man7.org/linux/man-pages/man5/proc_mounts.5.html).

    Returns:
        A type such as "ext4"; None if no mount contains the folder.
    """
    real = folder.resolve()
    found, depth = None, 0
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        # Of several mounts on one point, the last hides the others.
        if real.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    return found
