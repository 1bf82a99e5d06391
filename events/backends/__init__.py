"""Chooses the backend that opens a path or URL.

Backends of other packages register by an entry point
(https://packaging.python.org/en/latest/specifications/entry-points/) of the group `lllm.backends`,
which names a `BackendKind`:

    [project.entry-points."lllm.backends"]
    mine = "my_package:KIND"

`LogStore.open`, and the option `--store` of every command, then open the paths and URLs that `KIND`
recognises.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

from lllm.events.backend import BackendKind, LogBackend
from lllm.events.backends.location import MEMORY, local_path, scheme_of, sqlite_path
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import ConfigError, StoreError

GROUP = "lllm.backends"

_logger = logging.getLogger("lllm.store")


def _open_sqlite(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    from lllm.events.backends.sqlite.backend import SQLiteBackend

    path = sqlite_path(location)
    if path == MEMORY:
        return SQLiteBackend(MEMORY)
    _check_there(location, Path(path), make=make)
    if read_only is None:
        there = (path, os.path.dirname(os.path.abspath(path)))
        read_only = os.path.exists(path) and not all(os.access(one, os.W_OK) for one in there)
    return SQLiteBackend(path, read_only=read_only)


def _open_jsonl(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    from lllm.events.backends.jsonl.backend import LocalFileBackend

    path = local_path(location)
    _check_there(location, path, make=make)
    if path.is_dir() and not _has_mark(JSONL, path) and not (make and not os.listdir(path)):
        raise StoreError(f"{location} is a folder without a log in it: there is no log.json.")
    if read_only is None:
        read_only = path.exists() and not os.access(path, os.W_OK)
    return LocalFileBackend(path, read_only=read_only)


def _open_archive(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    from lllm.events.backends.archive.backend import ArchiveBackend

    del read_only, make  # an archive is never written to
    _check_there(location, local_path(location), make=False)
    return ArchiveBackend(location)


def _open_postgres(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    from lllm.events.backends.postgres.backend import PostgresBackend

    log = PostgresBackend(location, read_only=bool(read_only))
    if not make and not log.exists():
        raise StoreError(f"There is no store at {log.path}. A store is made by LogStore.")
    return log


def _open_jetstream(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    from lllm.events.backends.jetstream.backend import JetStreamBackend

    log = JetStreamBackend(location, read_only=bool(read_only))
    if not make and not log.exists():
        raise StoreError(f"There is no store at {log.path}. A store is made by LogStore.")
    return log


def _check_there(location: str, path: Path, *, make: bool) -> None:
    if path.is_file() and path.stat().st_size == 0:
        # opening it would make it a database
        raise StoreError(f"{location} is an empty file, and no store.")
    if not make and not path.exists():
        raise StoreError(
            f"There is no store at {location}. A store is made by LogStore, or by `lllm demo`."
        )


SQLITE = BackendKind(
    name="sqlite", open=_open_sqlite, schemes=("sqlite",), suffixes=(".db", ".sqlite", ".sqlite3")
)
JSONL = BackendKind(
    name="jsonl",
    open=_open_jsonl,
    # The other names remain when the log.json of a log is deleted.
    marks=("log.json", "rows.sqlite", "locks/write.lock", "[0-9]" * 20 + ".jsonl"),
)
_ARCHIVE = BackendKind(
    name="archive", open=_open_archive, suffixes=(".lllm-archive",), marks=("*.lllm-archive",)
)
_POSTGRES = BackendKind(name="postgres", open=_open_postgres, schemes=("postgresql", "postgres"))
_JETSTREAM = BackendKind(name="jetstream", open=_open_jetstream, schemes=("nats", "tls"))
_BUILT_IN = (SQLITE, JSONL, _ARCHIVE, _POSTGRES, _JETSTREAM)


def open_log(
    location: str | os.PathLike[str], *, read_only: bool | None = None, make: bool = True
) -> LogBackend:
    """Open the log at a path or URL with the backend that recognises it.

    Args:
        location: A path, as `runs.db` or `logs/`, or a URL. An existing log is recognised by its
            names. For a new one, a suffix like `.db` means an SQLite file, and any other name a
            folder of JSONL files.
        read_only: True to write nothing; False to write; None to write if this user may.
        make: True to create the log if it does not exist.

    Returns:
        The open log.

    Raises:
        ConfigError: No backend supports the scheme of the URL.
        StoreError: There is no log, and `make` is False.
        LogError: The log can't be opened.
    """
    text = os.fspath(location)
    return kind_of(text).open(text, read_only=read_only, make=make)


def kind_of(location: str) -> BackendKind:
    """Find the backend for a path or URL, whether or not the log exists yet.

    Args:
        location: A path or URL, as a user writes it.

    Returns:
        The description of the backend.

    Raises:
        ConfigError: No backend supports the scheme of the URL.
    """
    if location == MEMORY:
        return SQLITE
    scheme = scheme_of(location)
    if scheme is not None:
        found = next((kind for kind in _kinds() if scheme in kind.schemes), None)
        if found is None:
            local_path(location)  # raises the error if this is not a path
        return found or SQLITE
    path = local_path(location)
    if path.is_dir():
        marked = next((kind for kind in _kinds() if _has_mark(kind, path)), None)
        if marked is not None:
            return marked
    named = next((kind for kind in _kinds() if path.name.endswith(kind.suffixes)), None)
    if named is not None and not (named is SQLITE and path.is_dir()):
        return named
    return SQLITE if path.is_file() else JSONL


def _has_mark(kind: BackendKind, folder: Path) -> bool:
    return any(True for mark in kind.marks for _ in folder.glob(mark))


@cache
def _kinds() -> tuple[BackendKind, ...]:
    """List all kinds of backends: lllm's own first, then those of other packages by name.

    Raises:
        ConfigError: Two backends claim the same scheme or suffix.
    """
    # imported late: it takes some 20 ms, and is not needed if the backend's class is named
    with importing():
        from importlib.metadata import entry_points

    kinds = [*_BUILT_IN]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        where = f"The entry point {entry.name!r} ({entry.value}) of {GROUP}"
        try:
            kind = entry.load()
        except Exception as error:  # an error of another package must not prevent opening stores
            _logger.warning("%s can't be imported, so its stores can't be opened: %s", where, error)
            continue
        if not isinstance(kind, BackendKind):
            raise ConfigError(f"{where} must be a BackendKind, not {type(kind).__name__}.")
        for one in kinds:
            if shared := {*one.schemes, *one.suffixes} & {*kind.schemes, *kind.suffixes}:
                raise ConfigError(
                    f"{where} claims {', '.join(sorted(shared))}, which {one.name!r} opens already."
                )
        kinds.append(kind)
    return tuple(kinds)
