"""Reads the sessions of opencode: from its SQLite database, or from the files of older versions.

When opencode changed from files to a database, it copied all sessions and left the files there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from lllm.events.errors import StoreError
from lllm.importing.transcripts.opencode_messages import OpencodeFacts, nanos_of, title_in
from lllm.importing.transcripts.sqlite_file import json_in, read_only, state_of
from lllm.importing.transcripts.transcript_json import LONGEST
from lllm.invokers.dialects.provider_json import mapping, text

_TABLES = frozenset({"session", "message", "part"})
_COLUMNS = ("id", "parent_id", "directory", "title", "version", "time_created", "time_updated")


class StoredMessage(NamedTuple):
    """A message as opencode stores it.

    Attributes:
        id: Its id.
        info: The message; None if it can't be read.
        parts: Its parts, in order.
    """

    id: str
    info: Mapping[str, object] | None
    parts: list[Mapping[str, object]]


class OpencodeStorage(Protocol):
    """Where opencode keeps sessions."""

    def state(self) -> tuple[int, int]:
        """Say how it is: its size, and when it was last changed in nanoseconds UTC.

        Raises:
            OSError: It can't be read.
        """

    def sessions(self) -> Iterator[OpencodeFacts]:
        """List all sessions, the oldest first.

        Raises:
            StoreError: It is not of opencode, or can't be read.
        """

    def messages(self, session_id: str, after: tuple[int, str]) -> Iterator[StoredMessage]:
        """Read the messages of a session, the oldest first.

        Args:
            session_id: The id of the session.
            after: The time in nanoseconds and the id of a message; only later ones are read.
        """

    def close(self) -> None:
        """Close what was opened to read."""


def storage_at(path: Path) -> OpencodeStorage:
    """Open a database, or the folder `storage`."""
    return _Files(path) if path.is_dir() else _Database(path)


class _Database:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    def state(self) -> tuple[int, int]:
        return state_of(self._path)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = read_only(self._path)
        return self._opened

    def sessions(self) -> Iterator[OpencodeFacts]:
        try:
            connection = self._connection()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if not tables >= _TABLES:
                raise StoreError(
                    "it is not a database of opencode: it lacks the tables session, message or part"
                )
            have = {row[1] for row in connection.execute("PRAGMA table_info(session)")}
            columns = [name if name in have else f"NULL AS {name}" for name in _COLUMNS]
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM session ORDER BY time_created, id"
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the database can't be read: {error}") from error
        for id_, parent, folder, title, version, created, updated in rows:
            yield OpencodeFacts(
                str(id_), parent or "", folder or None, title_in(title), version or "",
                nanos_of(updated) or nanos_of(created) or 0,
            )  # fmt: skip

    def messages(self, session_id: str, after: tuple[int, str]) -> Iterator[StoredMessage]:
        connection = self._connection()
        time, name = after[0] // 1_000_000, after[1]
        found = connection.execute(
            "SELECT id, data FROM message WHERE session_id = ? AND (time_created, id) > (?, ?) "
            "ORDER BY time_created, id",
            (session_id, time, name),
        )
        for id_, data in found:
            parts = connection.execute(
                "SELECT data FROM part WHERE message_id = ? ORDER BY id", (id_,)
            )
            read = [mapping(json_in(part)) for (part,) in parts]
            info = json_in(data)
            yield StoredMessage(str(id_), info if isinstance(info, dict) else None, read)


class _Files:
    """The folder `storage`: session/<project>/<id>.json, message/<session>/, part/<message>/."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self) -> tuple[int, int]:
        folders = [*self._path.glob("session/*"), *self._path.glob("message/*")]
        found = [one.stat() for one in (*folders, *self._path.glob("session/*/*.json"))]
        return len(found), max((one.st_mtime_ns for one in found), default=0)

    def close(self) -> None:
        pass

    def sessions(self) -> Iterator[OpencodeFacts]:
        found: list[tuple[int, OpencodeFacts]] = []
        for path in self._path.glob("session/*/*.json"):
            about = mapping(_json_in(path))
            times = mapping(about.get("time"))
            created = nanos_of(times.get("created")) or 0
            found.append((created, OpencodeFacts(
                path.stem, text(about.get("parentID")) or "", text(about.get("directory")),
                title_in(about.get("title")), text(about.get("version")) or "",
                nanos_of(times.get("updated")) or created,
            )))  # fmt: skip
        for _, facts in sorted(found):
            yield facts

    def messages(self, session_id: str, after: tuple[int, str]) -> Iterator[StoredMessage]:
        found: list[tuple[int, str, Path]] = []
        for path in (self._path / "message" / session_id).glob("*.json"):
            time = nanos_of(mapping(mapping(_json_in(path)).get("time")).get("created")) or 0
            if (time, path.stem) > after or not time:
                found.append((time, path.stem, path))
        for _, name, path in sorted(found):
            parts = sorted((self._path / "part" / name).glob("*.json"))
            info = _json_in(path)
            yield StoredMessage(
                name,
                info if isinstance(info, dict) else None,
                [mapping(_json_in(one)) for one in parts],
            )


def _json_in(path: Path) -> object:
    try:
        with closing(path.open("rb")) as file:
            return json_in(file.read(LONGEST + 1))
    except OSError:
        return None
