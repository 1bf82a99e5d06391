"""Opens the files that lllm makes: segments, locks, log.json, blobs, backups.

A store may be in a folder where others can write. They could put a symbolic link, a FIFO or a
device under the name of one of lllm's files, so that lllm would overwrite a file elsewhere, or wait
forever. So lllm's files are opened without following a link in the last part of the path, and must
be regular files. The folder of a store may be a link: the user chose it.

A file with a second name (a hard link) is read and locked, but `only_name` refuses to write to it:
the other name may be another person's file, or a snapshot that must not change.

SQLite opens its files itself, by path. For these `check_by_path` checks the path; there is a short
time between the check and the opening.
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

_TRIES = 10  # attempts to open a file that others create and remove
# O_NONBLOCK: opening a FIFO without a reader does not wait; regular files ignore it. O_NOCTTY: a
# terminal does not become the controlling terminal of this process.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The errors of open() for a link, and for a socket or a FIFO without a reader.
_NOT_REGULAR = {errno.ELOOP, errno.ENXIO}


class FileId(NamedTuple):
    """Identifies a file independently of its name.

    Attributes:
        device: The number of the file system.
        inode: The number of the file in the file system.
    """

    device: int
    inode: int


def open_own(path: Path | str, flags: int, *, mode: int = FILE_MODE) -> int:
    """Open a file of lllm, which must be a regular file and not a link.

    Args:
        path: The path of the file.
        flags: The flags for os.open, such as os.O_RDWR | os.O_CREAT.
        mode: The permissions of a file that is created, independent of the umask.

    Returns:
        The descriptor; the caller has to close it.

    Raises:
        LogUnavailable: There is a link, a FIFO, a device, a socket or a folder at the path.
        OSError: The file can't be opened for another reason.
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
    """Open a file; returns the descriptor, and True if the file was created."""
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
            pass  # another process has just created it
    return os.open(path, flags & ~os.O_CREAT), False


def open_to_read(path: Path) -> FileIO:
    """Open a file of lllm for reading bytes.

    Args:
        path: The path of the file to read.

    Returns:
        The open file.

    Raises:
        LogUnavailable: There is something other than a regular file at the path.
        OSError: The file can't be opened for another reason.
    """
    return FileIO(open_own(path, os.O_RDONLY), "r")


def make_new(path: Path, *, mode: int = FILE_MODE) -> FileIO:
    """Create a file of lllm for writing; a file that has the name already is replaced.

    A link at the path is removed, not followed.

    Args:
        path: The path of the new file.
        mode: The permissions of the file, independent of the umask.

    Returns:
        The open file.

    Raises:
        LogUnavailable: There is something at the path that can't be replaced.
        OSError: The file can't be created for another reason.
    """
    path.unlink(missing_ok=True)
    return FileIO(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode), "r+")


def read_own(path: Path) -> bytes:
    """Read a file of lllm.

    Args:
        path: The path of the file to read.

    Returns:
        The content of the file.

    Raises:
        LogUnavailable: There is something other than a regular file at the path.
        OSError: The file can't be read for another reason.
    """
    with open_to_read(path) as file:
        return file.readall()


def file_id(fd: int) -> FileId | None:
    """Identify the file that a descriptor leads to.

    Other code of the program may close a descriptor of lllm (os.closerange) and open another file
    that gets the same number. Code that keeps a descriptor open compares this before each write.

    Args:
        fd: The file descriptor; a closed one is allowed.

    Returns:
        The identity of the file; None if the descriptor is closed.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return FileId(found.st_dev, found.st_ino)


def leads_to(fd: int, opened: FileId | None) -> bool:
    """True if a descriptor still leads to the file that was opened.

    Args:
        fd: The file descriptor; a closed one is allowed.
        opened: The result of `file_id` when the file was opened.

    Returns:
        False if it was closed, or leads to another file.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == opened


def mark_descriptor(fd: int) -> int:
    """Mark a descriptor by a file offset, so that it can be recognised later.

    The file must not be read or written at its offset. While the descriptor has this offset, it
    leads to the same file. Checking the offset takes a quarter of the time of `leads_to`.

    Args:
        fd: An open file descriptor.

    Returns:
        The offset. Another file with the same descriptor has the same offset only once in 2^31
        cases.
    """
    return os.lseek(fd, 1 + secrets.randbelow(1 << 31), os.SEEK_SET)


def has_mark(fd: int, mark: int) -> bool:
    """True if a descriptor still has its mark.

    Args:
        fd: The file descriptor; a closed one is allowed.
        mark: The offset that `mark_descriptor` returned.

    Returns:
        False if it was closed, or leads to another file.
    """
    try:
        return os.lseek(fd, 0, os.SEEK_CUR) == mark
    except OSError:
        return False


def is_at(path: Path, opened: FileId | None) -> bool:
    """True if a path leads to the file that was opened.

    Args:
        path: The path to check.
        opened: The result of `file_id` when the file was opened.

    Returns:
        False if there is another file, or none.
    """
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == opened


def close_own(fd: int, opened: FileId | None) -> None:
    """Close a descriptor, unless it now leads to another file.

    Args:
        fd: The file descriptor; a closed one is allowed.
        opened: The result of `file_id` when the file was opened.
    """
    if leads_to(fd, opened):
        os.close(fd)


def only_name(fd: int, path: Path) -> None:
    """Refuse to write to a file that has further names (hard links).

    Args:
        fd: A descriptor of the file.
        path: The file, for the text of the error.

    Raises:
        LogUnavailable: The file has a further name.
    """
    if os.fstat(fd).st_nlink > 1:
        raise LogUnavailable(
            f"{path} has another name (a hard link), and what lllm writes would change the file "
            "there, too. Put a copy in its place: copy it to a new name, and rename the copy."
        )


def check_by_path(path: Path | str) -> None:
    """Check that a path is safe for SQLite to open: a regular file, or nothing.

    Args:
        path: The path that SQLite will open.

    Raises:
        LogUnavailable: There is a link, a FIFO, a device, a socket or a folder at the path.
        OSError: The path can't be checked.
    """
    if _is_other(path):
        raise _refused(path)


def check_database(path: Path | str) -> None:
    """Check a database, and the files beside it, before SQLite opens them.

    The path itself may be a link, which the user chose; SQLite puts the other files beside the
    link's target.

    Args:
        path: The path of the database.

    Raises:
        LogUnavailable: One of the files is a link, a FIFO, a device, a socket or a folder.
        OSError: A path can't be checked.
    """
    file = os.path.realpath(path)
    for suffix in ("", "-wal", "-shm", "-journal"):
        check_by_path(file + suffix)


def make_folder(
    path: Path, *, parents: bool = False, durable: bool = False, mode: int = FOLDER_MODE
) -> None:
    """Create a folder of lllm, unless it exists.

    Args:
        path: The path of the folder.
        parents: True to create the folders above it too; these may be links.
        durable: True to wait until the names of all new folders are on the disk.
        mode: The permissions of new folders, independent of the umask.

    Raises:
        LogUnavailable: There is a link at the path.
        OSError: The folder can't be created.
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
                f"{path} is a symbolic link, but lllm needs a folder of its own there. Remove the "
                "link."
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

    The files that SQLite creates beside it get the same permissions. An existing file is not
    opened: this process might lose its locks on it (see `file_header.refuse_others`).

    Args:
        path: The path of the new file.
        mode: The permissions of the file, independent of the umask.

    Raises:
        OSError: The file can't be created.
    """
    if not os.path.lexists(path):
        with suppress(FileExistsError):
            os.close(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode))


def open_new_output(path: str, flags: int) -> int:
    """Open a user's output file, as an `opener` for `open`; a new file is its owner's alone.

    The permissions of an existing file are not changed.

    Args:
        path: The path of the output file.
        flags: The flags for os.open.

    Returns:
        The descriptor.

    Raises:
        OSError: The file can't be opened.
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
        file: The file, opened for writing.

    Raises:
        OSError: The file can't be synced.
    """
    if sys.platform == "darwin":
        # On macOS fsync leaves the data in the drive's cache (its man page fsync(2)).
        fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
    else:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk.

    Args:
        folder: The path of the folder.

    Raises:
        OSError: The folder can't be synced.
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
