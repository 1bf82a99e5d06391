"""Opens a source of an import: a file of exported events, or another store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lllm.events.backend import CopiesFiles, KnowsWriters, LogBackend
from lllm.events.backends import open_log
from lllm.events.backends.location import MEMORY, local_path, scheme_of, shown_location
from lllm.events.damage import Damage, readable
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError, LogError, StoreError
from lllm.events.exported_lines import NoEvent, read_lines

Given = str | os.PathLike[str] | LogBackend
_LINES = (".jsonl", ".ndjson", ".json", ".txt")  # endings of names that no store's file has


class Source(Protocol):
    """A source that events are imported from.

    Attributes:
        name: The name of the source in messages.
        place: The name of what the `position` of its events counts, such as "line".
        size: The number of positions or bytes to read.
    """

    name: str
    place: str
    size: int

    def read(self) -> Iterator[Recorded | Damage]:
        """Read all events in order, with a Damage for each unreadable one; repeatable.

        Raises:
            StoreError: It can't be told what is missing, so nothing may be imported.
        """

    def reached(self) -> int:
        """Get the part of `size` that the current or last `read` has covered."""

    def lives(self, owner: str, host: str) -> bool | None:
        """True if the process that holds a lock is alive; None if that is unknown."""

    def close(self) -> None:
        """Close the file or store."""


class FileSource:
    """A file that contains one or several exports."""

    place = "line"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb")
        found = os.fstat(self._file.fileno())
        self.size = found.st_size
        self._seen = found.st_mtime_ns

    def read(self) -> Iterator[Recorded | Damage]:
        """Read all events in order; see Source."""
        self._file.seek(0)
        if os.fstat(self._file.fileno()).st_mtime_ns != self._seen:
            raise StoreError(f"{self.name} was changed while it was imported. Import it again.")
        try:
            yield from read_lines(self._file, self.size)
        except NoEvent as error:
            raise StoreError(
                f"{self.name}, line {error.number}: {error}. Nothing of this file was imported."
            ) from error

    def reached(self) -> int:
        """Get the number of bytes read so far; see Source."""
        return self._file.tell()

    def lives(self, owner: str, host: str) -> bool | None:
        """Return None, because a file does not tell which processes are alive."""
        del owner, host
        return None

    def close(self) -> None:
        """Close the file; see Source."""
        self._file.close()


class StoreSource:
    """The log of another store, up to its head at the time of construction."""

    place = "position"

    def __init__(self, log: LogBackend, name: str | None) -> None:
        """name: None for a log that the caller opened, and will close."""
        self.name = repr(log) if name is None else name
        self.log = log
        self._is_ours = name is not None
        self.size = log.head()
        self._reached = 0

    def read(self) -> Iterator[Recorded | Damage]:
        """Read all events in order; see Source."""
        for event in readable(self.log):
            if event.position > self.size:
                return
            if isinstance(event, Damage) and not event.stream:
                raise StoreError(
                    f"{self.name}, position {event.position}: {event.what} Nobody can tell which "
                    "session it was of, so nothing was imported. Mend the store with `lllm "
                    "repair`, or import what `lllm export ID --format jsonl` writes of its "
                    "sessions."
                )
            self._reached = event.position
            yield event

    def reached(self) -> int:
        """Get the number of positions read so far; see Source."""
        return self._reached

    def lives(self, owner: str, host: str) -> bool | None:
        """True if the process that holds a lock is alive; see Source."""
        liveness = self.log.liveness if isinstance(self.log, KnowsWriters) else None
        if liveness is None or not liveness.can_tell(owner, host):
            return None
        return not liveness.is_dead(owner, host)

    def close(self) -> None:
        """Close the log, unless the caller opened it; see Source."""
        if self._is_ours:
            self.log.close()


def open_source(given: Given, into: LogBackend) -> Source:
    """Open a source to import from, read-only.

    Args:
        given: The path of a file of exported events or of a store, the URL of a store, or an open
            log.
        into: The log of the store that it is imported into.

    Returns:
        The source, from which batches of events are read; the caller closes it.

    Raises:
        StoreError: The source does not exist, or is the store itself.
        ConfigError: No backend is registered for the scheme of the URL.
        LogError: The source can't be opened.
    """
    source = _open(given)
    if isinstance(source, StoreSource) and _is_same_place(source.log, into):
        source.close()
        raise StoreError(f"{source.name} is the store that it would be imported into.")
    return source


def _open(given: Given) -> Source:
    if not isinstance(given, str | os.PathLike):
        return StoreSource(given, None)
    location = os.fspath(given)
    if scheme_of(location) is None:
        path = local_path(location)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise StoreError(f"{path} is neither a file nor a folder.")
        if path.name.endswith(_LINES) and not path.is_dir():
            return _open_lines(path)
    try:
        log = open_log(location, read_only=True, make=False)
        return StoreSource(log, shown_location(log, location))
    except ConfigError:
        raise
    except LogError as error:
        # Anything that is not a database, whatever its name, is read as a file of lines.
        if isinstance(error.__cause__, sqlite3.DatabaseError) and type(error) is LogError:
            return _open_lines(local_path(location))
        raise


def _open_lines(path: Path) -> FileSource:
    try:
        return FileSource(path)
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}.") from error


def _is_same_place(log: LogBackend, other: LogBackend) -> bool:
    if isinstance(log, CopiesFiles) and isinstance(other, CopiesFiles):
        with suppress(OSError):
            return os.path.samefile(log.path, other.path)
    name = getattr(log, "path", None)
    if isinstance(name, str) and name == getattr(other, "path", None) != MEMORY:
        return True
    return log is other
