"""Reads an SQLite database of another program, which may be writing it at this moment."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from lllm.importing.transcripts.transcript_json import LONGEST

_TIMEOUT = 5  # seconds to wait for a writer


def state_of(path: Path) -> tuple[int, int]:
    """Say how a database is: its size with its log, and when it was last changed.

    Args:
        path: The file.

    Returns:
        The size in bytes, and the time in nanoseconds UTC.

    Raises:
        OSError: The file can't be read.
    """
    found = os.stat(path)
    try:
        log = os.stat(f"{path}-wal")
    except OSError:
        return found.st_size, found.st_mtime_ns
    return found.st_size + log.st_size, max(found.st_mtime_ns, log.st_mtime_ns)


def read_only(path: Path) -> sqlite3.Connection:
    """Open a database for reading.

    Args:
        path: The file.

    Returns:
        The connection, which the caller closes.

    Raises:
        sqlite3.Error: The file is not a database, or can't be read.
    """
    uri = path.absolute().as_uri()
    try:
        return _opened(f"{uri}?mode=ro")
    except sqlite3.OperationalError:  # for example a folder in which nothing can be written
        return _opened(f"{uri}?mode=ro&immutable=1")


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_TIMEOUT)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def json_in(data: object) -> object:
    """Decode JSON; None for anything else, and for more than `LONGEST` bytes."""
    if not isinstance(data, str | bytes) or len(data) > LONGEST:
        return None
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found
