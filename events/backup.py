"""A copy of a log, made while any number of processes write to it.

The copy is the log as it was at one moment: every event that was acknowledged before the backup
began is in it, and of those written meanwhile none, or the first. Nobody waits for it.

An SQLite file is copied page by page within one read transaction. Without one, SQLite begins anew
whenever another process commits (https://sqlite.org/backup.html), and would never end beside busy
writers. Known trade-off (accepted): until it ends, the write-ahead log can't be emptied, and grows
by what is written. A JSONL log is copied up to its head; nothing before it ever changes. Its rows
are left out: whoever opens the copy builds them anew.

The copy grows in a folder `DEST.partial` and is then renamed, so DEST is whole or not there. Locks
are not copied: they belong to the processes that write the original. A restore is a plain copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from io import FileIO
from itertools import zip_longest
from pathlib import Path

import msgspec

from lllm.events.database import Database
from lllm.events.errors import LogError, LogUnavailable
from lllm.events.jsonl import LocalFileBackend
from lllm.events.locks import FileLock, is_held
from lllm.events.log import LogBackend
from lllm.events.own_files import (
    make_database,
    make_folder,
    make_new,
    open_own,
    open_to_read,
    sync,
    sync_folder,
)
from lllm.events.segments import segments_of
from lllm.events.sqlite import SQLiteBackend
from lllm.events.sqlite_reading import HEADS

Progress = Callable[[int, int], None]  # bytes copied, bytes to copy

_PAGES = 1000  # of a database, between two reports of how far the copy is
_BLOCK = 1 << 20  # bytes of a segment read at once
_COPY, _LOCK = "copy", "lock"  # what lies in the folder of a backup under way


class BackedUp(msgspec.Struct, frozen=True):
    """A backup that was made.

    path: where it lies. position: of the last event in it. size: bytes.
    """

    path: Path
    position: int
    size: int


def back_up(
    log: LogBackend, destination: str | os.PathLike[str], *, progress: Progress | None = None
) -> BackedUp:
    """Copy a log to a path of its own, from where it opens as any store does.

    destination: where nothing is yet; a file for SQLiteBackend, a folder for LocalFileBackend.
    progress: called as the copy grows.

    Raises LogError where something is at the destination already or the log is of another kind;
    LogUnavailable where the copy can't be written, and then nothing is left of it.
    """
    path = Path(destination).absolute()
    copy_log, name = _way_to_copy(log, path)
    _check_destination(log, path, name)
    with _told(path), _draft(path) as copy:
        position, size = copy_log(copy, progress)
        _check_free(path, name)
        copy.rename(path)
        sync_folder(path.parent)
    return BackedUp(path, position, size)


_Copy = Callable[[Path, Progress | None], tuple[int, int]]  # returns the position and the size


def _way_to_copy(log: LogBackend, path: Path) -> tuple[_Copy, str]:
    """How a log is copied, and the name of its file or folder."""
    if isinstance(log, LocalFileBackend):
        return partial(_copy_folder, log), log.path.name
    if isinstance(log, SQLiteBackend) and isinstance(log.path, Path):
        return partial(_copy_database, log.database, path), log.path.name
    raise LogError(
        f"{log!r} can't be backed up: a backup is a copy of files that SQLiteBackend or "
        "LocalFileBackend wrote."
    )


# -- the destination


def _check_destination(log: LogBackend, path: Path, name: str) -> None:
    _check_free(path, name)
    if not path.parent.is_dir():
        raise LogError(f"There is no folder {path.parent} to put a backup in; make it first.")
    if isinstance(log, LocalFileBackend):
        original = log.path.resolve()
        if path.parent.resolve().is_relative_to(original):
            raise LogError(f"{path} lies in the log itself; put the backup outside {original}.")


def _check_free(path: Path, name: str) -> None:
    if os.path.lexists(path):
        such = f", {path / name} say" if path.is_dir() else ""
        raise LogError(
            f"{path} exists, and a backup replaces nothing. Name a path that is free{such}."
        )


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Where the copy grows: in a folder that nobody else can read, and that is gone afterwards."""
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
    """What backups that were killed have left in a folder. Raises OSError where it can't be
    read."""
    return [
        draft
        for draft in sorted(folder.glob("*.partial"))
        if draft.is_dir()
        and (draft / _LOCK).exists()
        and _is_draft(draft)
        and not is_held(draft / _LOCK)
    ]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the disk of the copy raises, as our error."""
    try:
        yield
    except LogError:
        raise
    except (OSError, sqlite3.OperationalError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise LogUnavailable(
            f"The backup to {path} could not be made: {reason}. Nothing is left of it. Is there "
            "space left, and may the folder be written?"
        ) from error


# -- the copy


def _copy_database(
    database: Database, path: Path, copy: Path, progress: Progress | None
) -> tuple[int, int]:
    with database.snapshot() as source, _told(path):  # the snapshot would blame the original
        source.execute("BEGIN")
        position = _last_position(source)
        page: int = source.execute("PRAGMA page_size").fetchone()[0]

        def report(_status: int, rest: int, pages: int) -> None:
            if progress is not None:
                progress((pages - rest) * page, pages * page)

        make_database(copy)
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            # A copy that was cut short is thrown away: there is nothing to roll back.
            target.execute("PRAGMA journal_mode=OFF")
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target, pages=_PAGES, progress=report)
        _check_copy(source, copy)
    _finish(Path(database.path), copy)
    return position, copy.stat().st_size


def _last_position(connection: sqlite3.Connection) -> int:
    for sql in HEADS:
        try:
            found: int = connection.execute(sql).fetchone()[0] or 0
            return found
        except sqlite3.DatabaseError as error:  # a page is damaged; the copy has it as it is
            damage = error
    raise damage


def _check_copy(source: sqlite3.Connection, copy: Path) -> None:
    """Raise LogError where a copy does not say of itself what the original does."""
    # Immutable: nothing is made beside it.
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as copied:
        for pragma in ("application_id", "user_version", "page_count"):
            sql = f"PRAGMA {pragma}"
            if source.execute(sql).fetchone() != copied.execute(sql).fetchone():
                raise LogError(f"The copy in {copy.parent} has another {pragma}; try again.")
        if _last_position(source) != _last_position(copied):
            raise LogError(f"The copy in {copy.parent} lacks events of the original; try again.")


def _copy_folder(log: LocalFileBackend, copy: Path, progress: Progress | None) -> tuple[int, int]:
    upto = log.head()
    parts = [segment for segment in segments_of(log.path) if segment.begin < upto]
    make_folder(copy)
    for _ in _copy_bytes(log.path / "log.json", copy / "log.json"):
        pass
    for segment, following in zip_longest(parts, parts[1:]):
        # The last is cut where its last whole append ends; others are copied as they are.
        limit = None if following else upto - segment.begin
        for copied in _copy_bytes(segment.path, copy / segment.path.name, limit):
            if progress is not None:
                progress(segment.begin + copied, upto)
    sync_folder(copy)
    _permit(log.path, copy)
    return upto, sum(file.stat().st_size for file in copy.iterdir())


def _copy_bytes(original: Path, copy: Path, limit: int | None = None) -> Iterator[int]:
    """Copy a file, or so many bytes of it; yields how many are copied."""
    copied = 0
    with open_to_read(original) as reading, make_new(copy) as writing:
        while block := reading.read(_BLOCK if limit is None else min(_BLOCK, limit - copied)):
            writing.write(block)
            copied += len(block)
            yield copied
    _finish(original, copy)


def _finish(original: Path, copy: Path) -> None:
    """A copied file is put on the disk, for those who may read the original."""
    with FileIO(open_own(copy, os.O_RDWR), "r+") as file:
        sync(file)
    _permit(original, copy)


def _permit(original: Path, copy: Path) -> None:
    """Others may do with a copy what they may do with the original; its owner may write it."""
    owner = stat.S_IRWXU if copy.is_dir() else stat.S_IRUSR | stat.S_IWUSR
    copy.chmod(stat.S_IMODE(original.stat().st_mode) | owner)
