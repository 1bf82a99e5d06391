"""The store that a command is about: found by its path, and never made by looking for it."""

from __future__ import annotations

import os
from pathlib import Path

from lllm.events.errors import ConfigError, StoreError
from lllm.events.holding import OnError
from lllm.events.log import LogBackend
from lllm.events.segments import segments_of
from lllm.events.store_paths import is_sqlite_url, local_path, sqlite_path
from lllm.store import LogStore

VARIABLE = "LLLM_STORE"
_LEFT_OF_A_LOG = ("log.json", "rows.sqlite", "locks/write.lock")  # where its files were deleted
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def open_store(path: str, *, on_error: OnError = "hold") -> LogStore:
    """The store at a path: a folder of JSONL files, or an SQLite file. What this user can't write
    is opened to be read only.

    on_error: as LogStore's. Raises StoreError where there is none, LogError where what is there
    can't be opened.
    """
    return _store(open_log(path), on_error=on_error)


def open_log(path: str) -> LogBackend:
    """The log of the store at a path, without its rows. Raises as `open_store`."""
    place = _place(path)
    if place.is_dir():
        if not (segments_of(place) or any((place / one).exists() for one in _LEFT_OF_A_LOG)):
            raise StoreError(f"{path} is a folder without a log in it: there is no log.json.")
        return _jsonl(place)
    if not place.exists():
        raise StoreError(
            f"There is no store at {path}. A store is made by LogStore, or by `lllm demo`."
        )
    if place.stat().st_size == 0:
        raise StoreError(f"{path} is an empty file, and no store.")  # opening would make it one
    return _sqlite(place)


def open_or_make(path: str, *, partition: str) -> LogStore:
    """The store at a path, made where there is none: an SQLite file for a name with a suffix like
    `.db`, a folder for any other.

    partition: of the sessions written. Raises LogError where it can't be opened or made.
    """
    place = _place(path)
    if place.exists():
        open_log(path).close()  # refuses what is no store
    is_file = place.is_file() or place.suffix in _SQLITE_SUFFIXES or is_sqlite_url(path)
    return _store(_sqlite(place) if is_file else _jsonl(place), partition)


def _place(path: str) -> Path:
    """Where a store lies; a URL of an SQLite file leads to that file."""
    try:
        return Path(sqlite_path(path)) if is_sqlite_url(path) else local_path(path)
    except ConfigError as error:
        raise StoreError(str(error)) from None


def _store(backend: LogBackend, partition: str = "", on_error: OnError = "hold") -> LogStore:
    try:
        return LogStore(backend, partition=partition, on_error=on_error)
    except BaseException:
        backend.close()
        raise


def named_in_environment() -> str | None:
    """The path that LLLM_STORE names."""
    return os.environ.get(VARIABLE) or None


def _sqlite(path: Path) -> LogBackend:
    from lllm.events.sqlite import SQLiteBackend

    both = all(os.access(one, os.W_OK) for one in (path, path.absolute().parent))
    return SQLiteBackend(path, read_only=path.exists() and not both)


def _jsonl(path: Path) -> LogBackend:
    from lllm.events.jsonl import LocalFileBackend

    return LocalFileBackend(path, read_only=path.exists() and not os.access(path, os.W_OK))
