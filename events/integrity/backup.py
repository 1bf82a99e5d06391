"""Copies a log while other processes write to it.

The copy is the log as it was at one moment. It has every event that was acknowledged before the
backup began. Of the events that are written during the backup it has none, or only the first ones.
Writers never wait for it.

A log in files makes the copy itself, and the copy opens as the original does. The events of any
other log are written into a new SQLite file: verbatim, with their digests and in their order, but
with positions from 1 on, because the positions of an SQLite log have no gaps.

The copy grows in a folder `DEST.partial` and is then renamed, so DEST is complete or does not
exist. Locks are not copied: they belong to the processes that write the original. To restore a
backup, copy it back.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path

import msgspec

from lllm.events.backend import CopiesFiles, LogBackend, Progress, archived_leaves, persists
from lllm.events.backends import SQLITE
from lllm.events.concurrency.locks import FileLock, is_held
from lllm.events.envelope import Recorded
from lllm.events.errors import LogError, LogUnavailable
from lllm.events.files.copying import copy_errors
from lllm.events.files.own_files import make_folder, open_own, sync, sync_folder

_EVENTS = 1_000  # events in one append to the copy of a log without files
_BYTES = 8 << 20  # bytes of payloads from which such an append is full
_COPY, _LOCK = "copy", "lock"  # the name of the copy in the folder of a running backup
_BESIDE = ("-lllm", "-wal", "-shm", "-journal")  # what an open SQLite log has beside its file

BuildRows = Callable[[LogBackend], object]


class BackedUp(msgspec.Struct, frozen=True):
    """The result of a backup.

    Attributes:
        path: The file or folder of the copy.
        position: The position of the last event in the copy, as in the original log.
        size: The size of the copy, in bytes.
        archived: How many events had left the original for archives, if the copy lacks their
            digests, too. Seals of the original don't fit such a copy, and its lists and sums may
            lack their sessions until the archives are imported into it: positions count anew in the
            copy, so others may have the places that these sessions had.
    """

    path: Path
    position: int
    size: int
    archived: int = 0


def back_up(
    log: LogBackend,
    destination: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    build_rows: BuildRows | None = None,
) -> BackedUp:
    """Copy a log to a new path, where it can be opened like any store.

    Args:
        log: The backend itself; others may write to the log meanwhile.
        destination: A path at which nothing exists yet. It becomes a folder for LocalFileBackend,
            and an SQLite file for all others.
        progress: A function that is called with the bytes copied so far and the bytes to copy
            (positions, for a log without files); None for no reports.
        build_rows: A function that builds the rows of projections in the copy of a log without
            files, before the copy is put in its place. None for a copy without rows, which are
            then built when it is first opened.

    Returns:
        The path, position and size of the copy.

    Raises:
        LogError: Something exists at the destination, or the log stores nothing.
        LogUnavailable: The copy can't be written; what was written is deleted.
    """
    if not persists(log):
        raise LogError(f"{log!r} can't be backed up: it stores nothing.")
    path = Path(destination).absolute()
    original: Path | None = None
    archived = 0
    copy_log: Callable[[Path, Progress | None], tuple[int, int]]
    copy_log = partial(_copy_events, log, build_rows)
    if isinstance(log, CopiesFiles) and isinstance(log.path, Path):
        original, copy_log = log.path, log.copy_to
    else:
        archived = sum(1 for _ in archived_leaves(log, upto=log.head()))
    _check_destination(path, original)
    with copy_errors(path), _draft(path) as copy:
        position, size = copy_log(copy, progress)
        _check_free(path, original)
        copy.rename(path)
        sync_folder(path.parent)
    return BackedUp(path, position, size, archived)


# -- The destination


def _check_destination(path: Path, original: Path | None) -> None:
    _check_free(path, original)
    if not path.parent.is_dir():
        raise LogError(f"There is no folder {path.parent} to put a backup in; make it first.")
    if original is not None and original.is_dir():
        whole = original.resolve()
        if path.parent.resolve().is_relative_to(whole):
            raise LogError(f"{path} is inside the log itself; put the backup outside {whole}.")


def _check_free(path: Path, original: Path | None) -> None:
    if os.path.lexists(path):
        name = "copy" if original is None else original.name
        such = f", {path / name} say" if path.is_dir() else ""
        raise LogError(
            f"{path} exists, and a backup never overwrites. Name a path that is free{such}."
        )


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A context manager whose value is a private folder for the copy; it is removed afterwards."""
    folder = path.with_name(f"{path.name}.partial")
    make_folder(folder)
    if not _is_draft(folder):
        raise LogError(f"{folder} is in the way of the backup, and not lllm's. Move it elsewhere.")
    lock = FileLock(folder / _LOCK)
    try:
        if not lock.acquire(wait=False):
            raise LogUnavailable(f"Another backup to {path} is under way.")
        _remove(folder / _COPY)  # left by a killed backup
        try:
            yield folder / _COPY
        finally:
            _remove(folder / _COPY)
            with suppress(OSError):
                lock.path.unlink()
    finally:
        lock.close()
        with suppress(OSError):  # not empty if another backup has begun meanwhile
            folder.rmdir()


def _is_draft(folder: Path) -> bool:
    copies = {_COPY, *(f"{_COPY}{end}" for end in _BESIDE)}
    return set(os.listdir(folder)) <= {*copies, _LOCK}


def _remove(copy: Path) -> None:
    for one in (copy, *(copy.with_name(f"{copy.name}{end}") for end in _BESIDE)):
        if one.is_dir():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)


def stopped_backups(folder: Path) -> list[Path]:
    """List the leftovers of killed backups in a folder.

    Args:
        folder: The folder that backups are written into.

    Returns:
        The paths of the leftovers.

    Raises:
        OSError: The folder can't be read.
    """
    return [
        draft
        for draft in sorted(folder.glob("*.partial"))
        if draft.is_dir()
        and (draft / _LOCK).exists()
        and _is_draft(draft)
        and not is_held(draft / _LOCK)
    ]


# -- A log without files


def _copy_events(
    log: LogBackend, build_rows: BuildRows | None, copy: Path, progress: Progress | None
) -> tuple[int, int]:
    """Write the events of a log into a new SQLite log.

    It returns the position of the last event in the original, and the size of the copy in bytes.
    """
    upto = position = log.head()
    with closing(SQLITE.open(str(copy), read_only=False, make=True)) as written:
        for events in _batches(log, upto):
            position = events[-1].position
            written.append([event.without_position() for event in events])
            if progress is not None:
                progress(position, upto)
        if build_rows is not None:
            build_rows(written)
    _put_into_one_file(copy)
    return position, copy.stat().st_size


def _put_into_one_file(copy: Path) -> None:
    """Move what is in the write-ahead log into the file, and wait until that is on the disk."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with FileIO(open_own(copy, os.O_RDWR), "r+") as file:
        sync(file)


def _batches(log: LogBackend, upto: int) -> Iterator[list[Recorded]]:
    batch: list[Recorded] = []
    size = 0
    for event in log.read(upto=upto):
        batch.append(event)
        size += len(event.data)
        if len(batch) == _EVENTS or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
