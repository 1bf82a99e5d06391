"""Writes sessions to a new archive file, and checks the file before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from lllm.events.backends.archive.archive_file import SUFFIX, ArchiveFile, ArchiveWriter
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.envelope import Recorded
from lllm.events.files.own_files import make_new, sync, sync_folder
from lllm.events.files.permissions import FILE_MODE

_DRAFT = ".draft"


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
    groups: Iterable[Iterable[Recorded]],
    *,
    mode: int = FILE_MODE,
    written: Callable[[], None] = lambda: None,
) -> WrittenArchive:
    """Write events to a new file.

    The file gets its name when it was synced and read again, event by event. If anything fails, no
    file is left.

    Args:
        path: The new file, whose name ends in SUFFIX.
        groups: The events, those of a session and of all that it refers to together. A stream that
            several groups have is written once, from the first.
        mode: The permissions of the file.
        written: Called when the file is written and not checked yet.

    Returns:
        What was written.

    Raises:
        LogUnavailable: The file can't be written.
        LogDamaged: The file can't be read as it was written.
        MissingExtra: The extra `archive` is not installed.
    """
    assert path.name.endswith(SUFFIX)
    draft = draft_of(path)
    try:
        with FileErrors(path):
            with make_new(draft, mode=mode) as file:
                writer = ArchiveWriter(file)
                for group in groups:
                    events = list(group)
                    known = {event.stream for event in events if writer.has(event.stream)}
                    writer.add(event for event in events if event.stream not in known)
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


def draft_of(path: Path) -> Path:
    """Name the file that becomes an archive file when it is complete.

    Args:
        path: The archive file.

    Returns:
        The path of the draft, in the same folder.
    """
    return path.with_name(path.name + _DRAFT)


def _checked(draft: Path, path: Path) -> WrittenArchive:
    file = ArchiveFile(draft)
    try:
        file.check()
        return WrittenArchive(
            path, file.sha256(), file.size, file.index.sessions, file.index.events
        )
    finally:
        file.close()
