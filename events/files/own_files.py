"""Opens the files that lllm makes: segments, locks, log.json, blobs, backups.

A store may lie where others can write. Whoever plants a symbolic link, a FIFO or a device under a
name of ours would have us overwrite a file elsewhere, or wait for ever. So our own files are opened
without following a link in the last part of the path, and what was opened must be a regular file.
The folder of a store may be a link: its user chose it.

A file with a second name (a hard link) is read and locked, but `only_name` refuses to write to it:
the other name may be somebody else's file, or a snapshot that must not change.

SQLite opens its files itself, by path. For them `check_by_path` looks at the path; that leaves a
moment between the look and the opening.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from lllm.events.errors import LogUnavailable
from lllm.events.files.permissions import FILE_MODE, FOLDER_MODE, permit

_TRIES = 10  # to open a file that others make and remove
# O_NONBLOCK: a FIFO without a reader is not waited for; regular files ignore it. O_NOCTTY: a
# terminal does not become that of this process.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# What open() says of a link, and of a socket or a FIFO that nobody reads.
_NOT_REGULAR = {errno.ELOOP, errno.ENXIO}


class FileId(NamedTuple):
    """Identifies a file independently of its name.

    Attributes:
        device: The number of the file system.
        inode: The number of the file in it.
    """

    device: int
    inode: int


def open_own(path: Path | str, flags: int, *, mode: int = FILE_MODE) -> int:
    """Open a file of lllm, which must be a regular file and not a link.

    Args:
        path: The file.
        flags: Those of os.open, such as os.O_RDWR | os.O_CREAT.
        mode: The permissions of a file that is made by this, whatever the umask.

    Returns:
        The descriptor. It is the caller's to close.

    Raises:
        LogUnavailable: A link, a FIFO, a device, a socket or a folder stands there.
        OSError: It can't be opened for another reason.
    """
    try:
        fd, is_new = _opened(path, flags | _SAFELY, mode)
    except OSError as error:
        if error.errno in _NOT_REGULAR or _is_other(path):
            raise _refused(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _refused(path)
        if is_new:
            permit(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _opened(path: Path | str, flags: int, mode: int) -> tuple[int, bool]:
    """Open a file; returns the descriptor, and whether the file was created."""
    if not flags & os.O_CREAT:
        return os.open(path, flags), False
    if flags & os.O_EXCL:
        return os.open(path, flags, mode), True
    for _ in range(_TRIES):
        try:
            return os.open(path, flags & ~os.O_CREAT), False
        except FileNotFoundError:
            pass
        try:
            return os.open(path, flags | os.O_EXCL, mode), True
        except FileExistsError:
            pass  # another has just made it
    return os.open(path, flags & ~os.O_CREAT), False


def open_to_read(path: Path) -> FileIO:
    """Open a file of lllm for reading bytes.

    Args:
        path: The file.

    Raises:
        LogUnavailable: As of `open_own`.
        OSError: As of `open_own`.
    """
    return FileIO(open_own(path, os.O_RDONLY), "r")


def make_new(path: Path, *, mode: int = FILE_MODE) -> FileIO:
    """Create a file of lllm for writing, replacing any file of that name.

    A link there is removed, not followed.

    Args:
        path: The file.
        mode: Its permissions, whatever the umask.

    Raises:
        LogUnavailable: As of `open_own`.
        OSError: As of `open_own`.
    """
    path.unlink(missing_ok=True)
    return FileIO(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode), "r+")


def read_own(path: Path) -> bytes:
    """Read a file of lllm.

    Args:
        path: The file.

    Raises:
        LogUnavailable: As of `open_own`.
        OSError: As of `open_own`.
    """
    with open_to_read(path) as file:
        return file.readall()


def file_id(fd: int) -> FileId | None:
    """Identify the file that a descriptor leads to; None if it is closed.

    Somebody may have closed a descriptor of ours (os.closerange) and opened a file of their own
    under its number: whoever keeps one open compares this before a write.

    Args:
        fd: The descriptor.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return FileId(found.st_dev, found.st_ino)


def leads_to(fd: int, opened: FileId | None) -> bool:
    """True if a descriptor still leads to the file that was opened.

    Args:
        fd: The descriptor.
        opened: What `file_id` said then.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == opened


def mark_descriptor(fd: int) -> int:
    """Mark a descriptor by a file offset, so that it can be recognised later.

    The file must be neither read nor written by its offset. While the descriptor has it, it leads
    to this file: to ask for it takes a fourth of `leads_to`.

    Args:
        fd: The descriptor.

    Returns:
        The offset. Another file that gets the same number is at another one, but for once in 2^31.
    """
    return os.lseek(fd, 1 + secrets.randbelow(1 << 31), os.SEEK_SET)


def has_mark(fd: int, mark: int) -> bool:
    """True if a descriptor still has its mark.

    Args:
        fd: The descriptor.
        mark: What `mark_descriptor` gave.
    """
    try:
        return os.lseek(fd, 0, os.SEEK_CUR) == mark
    except OSError:
        return False


def is_at(path: Path, opened: FileId | None) -> bool:
    """True if a path leads to the file that was opened.

    Args:
        path: The path.
        opened: What `file_id` said of the file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == opened


def close_own(fd: int, opened: FileId | None) -> None:
    """Close a descriptor, unless it now leads to another file.

    Args:
        fd: The descriptor.
        opened: What `file_id` said then.
    """
    if leads_to(fd, opened):
        os.close(fd)


def only_name(fd: int, path: Path) -> None:
    """Refuse to write a file that has further names (hard links).

    Args:
        fd: A descriptor of the file.
        path: The file, for the error.

    Raises:
        LogUnavailable: It has.
    """
    if os.fstat(fd).st_nlink > 1:
        raise LogUnavailable(
            f"{path} has another name (a hard link), and what lllm writes would change the file "
            "there, too. Put a copy in its place: copy it to a new name, and rename the copy."
        )


def check_by_path(path: Path | str) -> None:
    """Check a file that SQLite will open by its path; a missing file is fine.

    Args:
        path: The file.

    Raises:
        LogUnavailable: It is a link, a FIFO, a device, a socket or a folder.
        OSError: It can't be looked at.
    """
    if _is_other(path):
        raise _refused(path)


def check_database(path: Path | str) -> None:
    """Check a database, and the files beside it, before SQLite opens them.

    The path itself may be a link, which its user chose; SQLite makes the others beside the file
    that it leads to.

    Args:
        path: The database.

    Raises:
        LogUnavailable: As of `check_by_path`.
        OSError: As of `check_by_path`.
    """
    file = os.path.realpath(path)
    for suffix in ("", "-wal", "-shm", "-journal"):
        check_by_path(file + suffix)


def make_folder(
    path: Path, *, parents: bool = False, durable: bool = False, mode: int = FOLDER_MODE
) -> None:
    """Create a folder of lllm, unless it exists.

    Args:
        path: The folder.
        parents: Make the folders above it too; those may be links.
        durable: Wait until the names of all that was made are on the disk.
        mode: The permissions of all that is made by this, whatever the umask.

    Raises:
        LogUnavailable: A link stands there.
        OSError: It can't be made.
    """
    above = [folder for folder in path.parents if not folder.exists()] if durable else []
    try:
        if parents:
            for folder in reversed(path.parents):
                if not folder.exists():
                    with suppress(FileExistsError):
                        _make_one(folder, mode)
        _make_one(path, mode)
        if durable:
            for folder in (path, *above):
                sync_folder(folder.parent)
    except FileExistsError:
        if path.is_symlink():
            raise LogUnavailable(
                f"{path} is a symbolic link, and lllm keeps files of its own there. Remove it."
            ) from None
        if not path.is_dir():
            raise


def _make_one(path: Path, mode: int) -> None:
    path.mkdir(mode=mode & 0o777)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        permit(fd, mode)
    finally:
        os.close(fd)


def make_database(path: Path, *, mode: int = FILE_MODE) -> None:
    """Create the empty file of a database, with its permissions, before SQLite uses it.

    What SQLite makes beside it gets the same. One that is there is not opened: this process might
    lose its locks on it (see `file_header.refuse_others`).

    Args:
        path: The file.
        mode: Its permissions, whatever the umask.

    Raises:
        OSError: It can't be made.
    """
    if not os.path.lexists(path):
        with suppress(FileExistsError):
            os.close(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode))


def open_new_output(path: str, flags: int) -> int:
    """An `opener` for `open` that creates the user's output file for its owner only.

    A new one is its owner's alone, and one that is there is left as it is.

    Args:
        path: The file.
        flags: Those of os.open.

    Returns:
        The descriptor.

    Raises:
        OSError: It can't be opened.
    """
    try:
        fd = os.open(path, flags | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        return os.open(path, flags, FILE_MODE)
    permit(fd, FILE_MODE)
    return fd


def sync(file: FileIO) -> None:
    """Flush a file to the disk.

    Args:
        file: The file, open to write.

    Raises:
        OSError: It can't be put there.
    """
    if sys.platform == "darwin":
        # fsync leaves the data in the drive's cache there (fsync(2) of macOS).
        fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
    else:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk.

    Args:
        folder: The folder.

    Raises:
        OSError: They can't be put there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_other(path: Path | str) -> bool:
    """True if something other than a regular file is at the path."""
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False


def _refused(path: Path | str) -> LogUnavailable:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = 0
    kinds = (
        (stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISDIR, "a folder"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    )  # fmt: skip
    what = next((name for is_such, name in kinds if is_such(mode)), "no regular file")
    return LogUnavailable(
        f"{path} is {what}, and lllm keeps its own files in regular files only. Find out who put "
        "it there, and remove it."
    )
