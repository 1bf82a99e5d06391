"""Copies a log while other processes write to it.

The copy is the log as it was at one moment: every event that was acknowledged before the backup
began is in it, and of those written meanwhile none, or the first. Nobody waits for it.

A log that is in files makes the copy itself, and it opens as the original does. Of any other log
the events are read and written into a folder of JSON lines, which opens as any store does;
positions are counted anew there.

The copy grows in a folder `DEST.partial` and is then renamed, so DEST is whole or not there. Locks
are not copied: they belong to the processes that write the original. A restore is a plain copy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from lllm.events.backend import CopiesFiles, LogBackend, Progress, persists
from lllm.events.backends import JSONL
from lllm.events.concurrency.locks import FileLock, is_held
from lllm.events.envelope import Recorded
from lllm.events.errors import LogError, LogUnavailable
from lllm.events.files.copying import copy_errors
from lllm.events.files.own_files import make_folder, sync_folder

_EVENTS = 1_000  # of a log in no files, in one append to its copy
_BYTES = 8 << 20  # of their payloads, from which an append has enough
_COPY, _LOCK = "copy", "lock"  # what lies in the folder of a backup under way


class BackedUp(msgspec.Struct, frozen=True):
    """The result of a backup.

    Attributes:
        path: Where it lies.
        position: Of the last event of the log in it.
        size: Its bytes.
    """

    path: Path
    position: int
    size: int


def back_up(
    log: LogBackend, destination: str | os.PathLike[str], *, progress: Progress | None = None
) -> BackedUp:
    """Copy a log to a new path, where it can be opened like any store.

    Args:
        log: The backend itself, which others may go on writing.
        destination: Where nothing is yet; a file for SQLiteBackend, a folder for LocalFileBackend
            and for a log in no files.
        progress: Called as the copy grows.

    Raises:
        LogError: Something is at the destination already, or the log keeps nothing.
        LogUnavailable: The copy can't be written, and then nothing is left of it.
    """
    if not persists(log):
        raise LogError(f"{log!r} can't be backed up: it keeps nothing.")
    path = Path(destination).absolute()
    original: Path | None = None
    copy_log: Callable[[Path, Progress | None], tuple[int, int]] = partial(_copy_events, log)
    if isinstance(log, CopiesFiles) and isinstance(log.path, Path):
        original, copy_log = log.path, log.copy_to
    _check_destination(path, original)
    with copy_errors(path), _draft(path) as copy:
        position, size = copy_log(copy, progress)
        _check_free(path, original)
        copy.rename(path)
        sync_folder(path.parent)
    return BackedUp(path, position, size)


# -- the destination


def _check_destination(path: Path, original: Path | None) -> None:
    _check_free(path, original)
    if not path.parent.is_dir():
        raise LogError(f"There is no folder {path.parent} to put a backup in; make it first.")
    if original is not None and original.is_dir():
        whole = original.resolve()
        if path.parent.resolve().is_relative_to(whole):
            raise LogError(f"{path} lies in the log itself; put the backup outside {whole}.")


def _check_free(path: Path, original: Path | None) -> None:
    if os.path.lexists(path):
        name = "copy" if original is None else original.name
        such = f", {path / name} say" if path.is_dir() else ""
        raise LogError(
            f"{path} exists, and a backup replaces nothing. Name a path that is free{such}."
        )


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A `with` whose value is a private folder for the growing copy, removed afterwards."""
    folder = path.with_name(f"{path.name}.partial")
    make_folder(folder)
    if not _is_draft(folder):
        raise LogError(f"{folder} is in the way of the backup, and not lllm's. Move it elsewhere.")
    lock = FileLock(folder / _LOCK)
    try:
        if not lock.acquire(wait=False):
            raise LogUnavailable(f"Another backup to {path} is under way.")
        _remove(folder / _COPY)  # of a backup that was killed
        try:
            yield folder / _COPY
        finally:
            _remove(folder / _COPY)
            with suppress(OSError):
                lock.path.unlink()
    finally:
        lock.close()
        with suppress(OSError):  # not empty, where another backup has begun meanwhile
            folder.rmdir()


def _is_draft(folder: Path) -> bool:
    return set(os.listdir(folder)) <= {_COPY, _LOCK}


def _remove(copy: Path) -> None:
    if copy.is_dir():
        shutil.rmtree(copy, ignore_errors=True)
    else:
        copy.unlink(missing_ok=True)


def stopped_backups(folder: Path) -> list[Path]:
    """List the leftovers of killed backups in a folder.

    Args:
        folder: Where backups are made.

    Raises:
        OSError: It can't be read.
    """
    return [
        draft
        for draft in sorted(folder.glob("*.partial"))
        if draft.is_dir()
        and (draft / _LOCK).exists()
        and _is_draft(draft)
        and not is_held(draft / _LOCK)
    ]


# -- a log in no files


def _copy_events(log: LogBackend, copy: Path, progress: Progress | None) -> tuple[int, int]:
    """Write the events of a log into a folder of JSON lines.

    It returns the position of the last one and the size of the copy in bytes.
    """
    upto = position = log.head()
    with closing(JSONL.open(str(copy), read_only=False, make=True)) as written:
        for events in _batches(log, upto):
            position = events[-1].position
            written.append([event.without_position() for event in events])
            if progress is not None:
                progress(position, upto)
    shutil.rmtree(copy / "locks", ignore_errors=True)
    return position, sum(file.stat().st_size for file in copy.iterdir())


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
