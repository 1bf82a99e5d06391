"""A folder of Parquet files, one folder for each month in it, which changes as a whole.

    DIR/lllm-export.json                what was exported, and up to where
    DIR/month=2026-11/attempts.parquet  and a file for each other table
    DIR/.lllm/                          months that are being written

A month is written elsewhere and then exchanged with the one that is there, in one step of the file
system. So whoever reads, and whenever a process is killed, the old or the new month is there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lllm.events.concurrency.locks import FileLock
from lllm.events.errors import StoreError
from lllm.events.files.own_files import make_folder, make_new, read_own, sync, sync_folder

FORMAT = 1  # raised when the columns change: then all months are written anew
_MANIFEST = "lllm-export.json"
_MONTH = "month="
_AT_FDCWD = -2 if sys.platform == "darwin" else -100
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


class ExportManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder has.

    Attributes:
        format: The version of the columns.
        store: The digest of the first event of the store, as hex; "" for an empty store.
        filters: The filters that select the sessions.
        position: The position of the log up to which the folder is complete.
        last: The digest of the event at that position, as hex; None if there is none.
        definitions: A digest of the definitions of agents up to there; prompts are numbered anew
            when some were erased.
    """

    format: int
    store: str
    filters: dict[str, object]
    position: int
    last: str | None
    definitions: str


class ParquetFolder:
    """The folder of an export.

    Args:
        path: The folder; it is made if it does not exist.

    Raises:
        StoreError: There is something else at the path, or the folder can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._drafts = path / ".lllm"
        try:
            if path.exists() and not path.is_dir():
                raise StoreError(f"{path} is a file; name a folder for the Parquet files.")
            if path.is_dir() and not (path / _MANIFEST).exists():
                others = sorted({one.name for one in path.iterdir()} - {self._drafts.name})
                if others:
                    raise StoreError(
                        f"{path} has something else already ({others[0]}); name a new folder for "
                        "the Parquet files."
                    )
            make_folder(path, parents=True)
            make_folder(self._drafts)
        except OSError as error:
            raise StoreError(f"{path} can't be written: {error.strerror or error}.") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context manager that keeps other exports out, and clears what a killed one left.

        Raises:
            StoreError: Another process exports to this folder.
        """
        lock = FileLock(self._drafts / "lock")
        try:
            if not lock.acquire(wait=False):
                raise StoreError(f"Another process exports to {self.path}; wait until it is done.")
            self._clear()
            yield
            self._clear()
        finally:
            lock.close()

    def _clear(self) -> None:
        for draft in self._drafts.iterdir():
            if draft.name == "lock":
                continue
            month = self._month(draft.name.removesuffix(".old"))
            if draft.suffix == ".old" and not month.exists():
                draft.rename(month)  # killed between the two steps of `_replace`
            else:
                shutil.rmtree(draft)

    def manifest(self) -> ExportManifest | None:
        """Read what the folder has; None for a new folder.

        Raises:
            StoreError: The file can't be read.
        """
        file = self.path / _MANIFEST
        try:
            return msgspec.json.decode(read_own(file), type=ExportManifest)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"{file} can't be read: {error}. Remove {self.path} and export anew."
            ) from error

    def write_manifest(self, manifest: ExportManifest) -> None:
        """Say what the folder has.

        Args:
            manifest: What it has.
        """
        draft = self._drafts / _MANIFEST
        draft.unlink(missing_ok=True)
        with make_new(draft) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            sync(file)
        draft.rename(self.path / _MANIFEST)
        sync_folder(self.path)

    def months(self) -> set[str]:
        """List the months that the folder has."""
        return {one.name.removeprefix(_MONTH) for one in self.path.glob(f"{_MONTH}*")}

    def draft(self, month: str) -> Path:
        """Make an empty folder for the files of a month.

        Args:
            month: The month, as "2026-11".

        Returns:
            The folder; `publish` puts it in its place.
        """
        draft = self._drafts / month
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(draft)
        return draft

    def publish(self, month: str) -> None:
        """Put the draft of a month in its place, and delete what was there.

        Args:
            month: The month, as "2026-11".
        """
        draft, place = self._drafts / month, self._month(month)
        sync_folder(draft)
        if not place.exists():
            draft.rename(place)
        elif not _exchange(draft, place):
            self._replace(draft, place)
        sync_folder(self.path)
        shutil.rmtree(draft, ignore_errors=True)

    def _replace(self, draft: Path, place: Path) -> None:
        """Replace a folder in two steps, where the file system can't exchange two."""
        old = draft.with_name(f"{draft.name}.old")
        place.rename(old)
        draft.rename(place)
        shutil.rmtree(old)

    def remove(self, month: str) -> None:
        """Remove a month in which no session is selected any more.

        Args:
            month: The month, as "2026-11".
        """
        gone = self._drafts / month
        shutil.rmtree(gone, ignore_errors=True)
        self._month(month).rename(gone)  # first the name, so that nobody sees half a month
        sync_folder(self.path)
        shutil.rmtree(gone)

    def _month(self, month: str) -> Path:
        return self.path / f"{_MONTH}{month}"


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False if the system or the file system can't do it.

    See https://man7.org/linux/man-pages/man2/rename.2.html (RENAME_EXCHANGE), and renamex_np(2) of
    macOS.
    """
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*paths, _SWAP)
        else:
            failed = library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _SWAP)
    except AttributeError:  # an old C library
        return False
    number = ctypes.get_errno()
    if failed and number not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        raise OSError(number, os.strerror(number), os.fspath(other))
    return not failed
