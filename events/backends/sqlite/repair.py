"""Replaces a damaged SQLite log with a repaired file.

The damaged file is not changed. A new file is built from its pages (`rebuilt_file`) and takes its
place in one step; the damaged file and its write-ahead log are kept beside it under another name.
Rows of projections are built again from the events. The user's own tables are copied as far as
SQLite can read them.

Known trade-off (accepted): the write-ahead log has to be removed before the new file is put in
place, since SQLite would apply it to the new file. If the machine stops in between, the last
commits are only in the copies.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.backends.sqlite.file_header import names_of_lllm
from lllm.events.backends.sqlite.rebuilt_file import copy_of, salvage
from lllm.events.backends.sqlite.schema import ARCHIVE_FORMAT
from lllm.events.concurrency.locks import FileLock
from lllm.events.errors import LogDamaged, LogError, LogUnavailable
from lllm.events.files.open_files import copy_by_another_process
from lllm.events.files.own_files import check_database, make_folder, open_to_read, sync, sync_folder
from lllm.events.files.permissions import folder_mode, mode_like
from lllm.events.integrity.repair import Mended, Repaired
from lllm.events.integrity.verify import verify

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.backend import SQLiteBackend

SUFFIX = ".damaged"  # the suffix of the copies
_WAIT_SECONDS = 10.0  # seconds to wait for processes that write the log
_BESIDE = ("-wal", "-shm", "-journal")

# Run by another process, since closing the file would release the locks of this one. A process that
# has the file open in SQLite holds a lock on some of these bytes, and while they are locked here,
# no
# other can open it: https://sqlite.org/src/file/src/os.h (PENDING_BYTE and the bytes after it).
_HOLD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 512, 0x40000000)
    except OSError:
        sys.exit(3)
    print("held", flush=True)
    sys.stdin.read()
"""
_IN_USE = 3  # the exit code of that process
_ORDER = ("table", "index", "view", "trigger")  # orders in which a schema can be created


def repair_database(path: Path, *, head: int = 0) -> Repaired:
    """Replace a damaged file, which no process may have open, with a repaired one.

    Args:
        path: The path of the damaged file.
        head: The last position of the log, if SQLite could read it; otherwise 0.

    Returns:
        A report of what was repaired.

    Raises:
        LogUnavailable: Another process has the file open, or the files can't be written.
        LogError: No page of the file holds an event.
    """
    path = Path(os.path.realpath(path))
    with FileErrors(path):
        check_database(path)
        with _alone(path):
            return _replaced(path, head)


def repair_log(log: SQLiteBackend) -> Repaired:
    """Repair an SQLite log with a damaged page; this closes the log.

    If an event was changed or removed without damage to a page, it can't be restored: no page has
    the original.

    Args:
        log: The log, which no other store or process may have open.

    Returns:
        A report of what was repaired.

    Raises:
        LogUnavailable: Others use the log, or the files can't be written.
    """
    path = log.path
    if isinstance(path, str) or not _has_damaged_pages(log):
        return Repaired(left=tuple(damage.what for damage in verify(log).damages))
    head = log.readable().upto if log.damage is None else 0
    log.close()
    return repair_database(path, head=head)


def _has_damaged_pages(log: SQLiteBackend) -> bool:
    if log.damage is not None:
        return True
    try:
        return log.database.query("PRAGMA integrity_check(1)") != [("ok",)]
    except LogDamaged:
        return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """A context manager during which no other process can have the file open."""
    folder = path.with_name(f"{path.name}-lllm")
    make_folder(folder, mode=folder_mode(mode_like(folder, path)))
    lock = FileLock(folder / "write.lock")
    try:
        if not lock.take(time.monotonic(), _WAIT_SECONDS):
            raise _in_use(path)
        with _held_by_another(path):
            yield
    finally:
        lock.close()


@contextmanager
def _held_by_another(path: Path) -> Iterator[None]:
    command = [sys.executable, "-I", "-S", "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            said = holder.stdout.readline() if holder.stdout is not None else b""
            if not said and holder.wait() == _IN_USE:
                raise _in_use(path)
            if not said:
                raise LogUnavailable(f"{path} can't be locked to be repaired. Is it writable?")
            yield
        finally:
            holder.kill()


def _in_use(path: Path) -> LogUnavailable:
    return LogUnavailable(
        f"{path} is in use, perhaps by this program. Close the store and end the programs that "
        "use it first."
    )


def _replaced(path: Path, head: int) -> Repaired:
    copy, before = _keep(path), path.stat().st_size
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        found = salvage(copy, draft, head=head)
        if not found.events:
            raise LogError(f"No page of {path} holds an event of lllm's; it is left as it is.")
        left = _copy_others(path, draft)
        archived = _keep_archived(draft)
        with open_to_read(draft) as file:
            sync(file)
        draft.chmod(stat.S_IMODE(path.stat().st_mode))
        for suffix in _BESIDE:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        draft.rename(path)
        sync_folder(path.parent)
    finally:
        for suffix in ("", *_BESIDE):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)
    mended = Mended(
        path,
        copy,
        before,
        path.stat().st_size,
        lost_positions=tuple(gap for one in found.gaps for gap in _without(one, archived)),
        events=found.events,
    )
    return Repaired((mended,), not_copied=left or (), schema_lost=left is None)


def _keep(path: Path) -> Path:
    """Copy a file and its write-ahead log under a name made from the file's content."""
    draft = path.with_name(f"{path.name}.kept")
    copy_by_another_process(str(path), draft)
    copy = path.with_name(f"{path.name}-{_digest(draft)[:16]}{SUFFIX}")
    for suffix in ("-wal", ""):  # the file last: if it exists, the copy is complete
        original, part = Path(f"{path}{suffix}"), Path(f"{draft}{suffix}")
        if not original.exists():
            # an old file of another database: this file has no write-ahead log
            part.unlink(missing_ok=True)
            continue
        if suffix:
            copy_by_another_process(str(original), part)
        part.chmod(mode_like(path))
        with open_to_read(part) as file:
            sync(file)
        part.rename(f"{copy}{suffix}")
    sync_folder(path.parent)
    return copy


def _keep_archived(draft: Path) -> list[tuple[int, int]]:
    """Give the new file its format, and list the positions of events that are archived."""
    with closing(sqlite3.connect(draft, isolation_level=None)) as made:
        if not made.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'archived_leaves'"
        ).fetchone():
            return []
        made.execute(f"PRAGMA user_version={ARCHIVE_FORMAT}")
        return made.execute("SELECT first, last FROM archived_leaves ORDER BY first").fetchall()


def _without(gap: tuple[int, int], known: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut known ranges out of a range of lost positions."""
    first, end = gap
    for begin, last in known:
        if last < first or begin > end:
            continue
        if begin > first:
            yield first, begin - 1
        first = last + 1
    if first <= end:
        yield first, end


def _digest(file: Path) -> str:
    digest = sha256()
    with open_to_read(file) as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- The user's own tables


def _copy_others(path: Path, draft: Path) -> tuple[str, ...] | None:
    """Copy the user's own tables, indexes, views and triggers.

    It returns the names of those that could not be copied; None if it is unknown which there are.
    """
    with (
        tempfile.TemporaryDirectory(prefix="lllm-repair-", dir=path.parent) as folder,
        closing(sqlite3.connect(copy_of(path, Path(folder)), isolation_level=None)) as old,
        closing(sqlite3.connect(draft, isolation_level=None)) as new,
    ):
        try:
            found = old.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        except sqlite3.Error:
            return None
        return tuple(_copied(old, new, [row for row in found if row[0] in _ORDER]))


def _copied(
    old: sqlite3.Connection, new: sqlite3.Connection, schema: list[tuple[str, str, str, str]]
) -> Iterator[str]:
    ours = names_of_lllm(schema)
    for kind, name, table, sql in sorted(schema, key=lambda row: _ORDER.index(row[0])):
        if not str(sql).startswith("CREATE ") or not ours.isdisjoint((name, table)):
            continue
        try:
            new.execute(sql)
            if kind == "table":
                _copy_rows(old, new, str(name))
        except sqlite3.Error as error:
            yield f"the {kind} {name!r}, or a part of it: {error}"


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    names = [str(row[1]) for row in old.execute(f"PRAGMA table_xinfo({quoted})") if not row[6]]
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    insert = f"INSERT INTO {quoted} ({columns}) VALUES ({', '.join('?' * len(names))})"
    new.execute("BEGIN")
    try:
        for row in old.execute(f"SELECT {columns} FROM {quoted}"):
            new.execute(insert, row)
    finally:
        new.execute("COMMIT")
