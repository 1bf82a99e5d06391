"""Turns errors of sqlite3 into lllm's errors, which name the path and what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from lllm.events.errors import LogDamaged, LogError, LogUnavailable
from lllm.events.files.error_advice import advice, open_file_limit


class FileErrors:
    """A context manager that turns errors of sqlite3 and of the file system into lllm's errors.

    Their messages name the path and what to do.

    Args:
        path: The path of the file, which the messages name.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        raise_translated(error, self._path)


def raise_translated(error: BaseException | None, path: Path | str) -> None:
    """Raise lllm's error for an error of sqlite3 or of the file system.

    Nothing is raised for other errors; the caller raises those.

    Args:
        error: The error; None if there is none.
        path: The file, for the text of the new error.

    Raises:
        LogError: The error of lllm that corresponds to `error`.
    """
    if isinstance(error, (sqlite3.DatabaseError, OSError, UnicodeDecodeError)):
        ours = _translation(error, path)
        if ours is not None:
            raise ours from error


def _translation(
    error: sqlite3.DatabaseError | OSError | UnicodeDecodeError, path: Path | str
) -> LogError | None:
    if isinstance(error, (sqlite3.IntegrityError, LogUnavailable)):
        return None
    if isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in str(error):
        # SQLite's message, or a text in the file, is not UTF-8; sqlite3 raises this for both.
        return LogDamaged(f"{path} is damaged: {error}. Restore a backup.", position=0)
    if isinstance(error, OSError):
        what = error.strerror or error
        return LogUnavailable(f"{path}: {what}. {advice(error.errno, 'Is it writable?')}")
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", None) or 0
        number = open_file_limit() if code & 0xFF == sqlite3.SQLITE_CANTOPEN else None
        otherwise = "Is the disk full, or the path writable?"
        return LogUnavailable(f"{path}: {error}. {advice(number, otherwise)}")
    if "not a database" in str(error) and os.path.isdir(f"{path}-lllm"):
        return LogDamaged(
            f"{path}: its first page can't be read, and without it SQLite finds nothing in the "
            "file. Restore a backup.",
            position=0,
        )
    if "not a database" in str(error):
        return LogError(f"{path} is not an SQLite database; give lllm another path.")
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_TOOBIG:
        return LogDamaged(
            f"{path}: a row is longer than any that lllm writes, and not read. Restore a backup.",
            position=0,
        )
    if type(error) is sqlite3.DatabaseError:
        return LogDamaged(f"{path}: {error}. Restore a backup.", position=0)
    return LogError(f"{path}: {error}.")
