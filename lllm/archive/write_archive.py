"""Writes sessions to a new archive file, and checks the file before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from lllm.events.backend import LogBackend
from lllm.events.backends.archive.archive_file import SUFFIX, ArchiveFile, ArchiveWriter
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.files.own_files import make_new, sync, sync_folder
from lllm.events.files.permissions import FILE_MODE
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import load_session as loading
from lllm.projections.queries.load_session import FoundSession

DRAFT = ".draft"


class WrittenArchive(msgspec.Struct, frozen=True):
    """An archive file that was written, synced and checked.

    Attributes:
        path: The file.
        sha256: The SHA-256 of the whole file.
        bytes: Its length.
        sessions: The number of sessions in it, those below others included.
        events: The number of events in it.
    """

    path: Path
    sha256: bytes
    bytes: int
    sessions: int
    events: int


def write_archive(
    path: Path,
    log: LogBackend,
    database: RowsDatabase,
    families: Iterable[FoundSession],
    *,
    mode: int = FILE_MODE,
    written: Callable[[], None] = lambda: None,
) -> WrittenArchive:
    """Write sessions to a new file, which stands alone: with all that they refer to.

    The file gets its name when it was synced and read again, event by event. If anything fails, no
    file is left.

    Args:
        path: The new file, whose name ends in SUFFIX.
        log: The log of the sessions.
        database: The database of the rows.
        families: The sessions, each with all below it.
        mode: The permissions of the file.
        written: Called when the file is written and not checked yet.

    Returns:
        What was written.

    Raises:
        LogUnavailable: The file can't be written.
        LogDamaged: An event of a session differs from what was written, or the file can't be read
            as it was written.
        MissingExtra: The extra `archive` is not installed.
    """
    assert path.name.endswith(SUFFIX)
    draft = path.with_name(path.name + DRAFT)
    try:
        with FileErrors(path):
            with make_new(draft, mode=mode) as file:
                writer = ArchiveWriter(file)
                for found in families:
                    _add_family(writer, log, database, found)
                writer.finish()
                sync(file)
            written()
            done = _checked(draft, path)
            os.rename(draft, path)
            sync_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return done


def _add_family(
    writer: ArchiveWriter, log: LogBackend, database: RowsDatabase, found: FoundSession
) -> None:
    events = loading.read_sessions(log, found)
    definitions = loading.read_definitions(log, database, events)
    related = [*definitions, *loading.read_gaps(log, events)]
    writer.add(event for event in related if not writer.has(event.stream))
    writer.add(events)


def _checked(draft: Path, path: Path) -> WrittenArchive:
    file = ArchiveFile(draft)
    try:
        file.check()
        return WrittenArchive(
            path, file.sha256(), file.size, file.index.sessions, file.index.events
        )
    finally:
        file.close()
