"""Checks the header of an SQLite file, and turns errors of sqlite3 into lllm's."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lllm.events.errors import LogDamaged, LogError, LogTooNew, LogUnavailable
from lllm.events.files.error_advice import advice, open_file_limit

APPLICATION_ID = 0x6C6C6C6D  # "lllm": says in the file's header whose it is
_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite makes beside a file, by the end of its name
_ROWS = re.compile(r"([A-Za-z_]\w*)_v\d+", re.ASCII)  # a table of a projection's rows
_LOGS = ("events",)
_ANOTHERS = "{} is a database of another program; give lllm a file of its own."


def refuse_others(file: Path) -> None:
    """Raise LogError if a file is not one of lllm's, before anything is created beside it.

    The header is read through SQLite, and never by opening the file: it may be open in this process
    already, which would lose its locks when another descriptor of it is closed
    (https://sqlite.org/howtocorrupt.html, 2.2). Where changes wait in the write-ahead log, the
    header may be behind, and whoever opens the file with it has to tell.

    Args:
        file: What is about to be opened.

    Raises:
        LogError: Another program made it.
    """
    if not file.is_file() or file.stat().st_size == 0:
        return
    # Immutable: nothing is locked, and nothing made beside the file.
    with closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as connection:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION_ID and not os.path.exists(f"{file}-wal"):
        raise LogError(_ANOTHERS.format(file))


def refuse_parts(file: Path) -> None:
    """Refuse a file that SQLite creates beside a database, such as `-wal`.

    Opened as a database, it would lose the locks on it (see `refuse_others`).

    Args:
        file: What is about to be opened.

    Raises:
        LogError: It is one.
    """
    for suffix in _BESIDE:
        base = file.name.removesuffix(suffix)
        if base not in ("", file.name) and os.path.lexists(file.with_name(base)):
            raise LogError(f"{file} belongs to the database {file.with_name(base)}; name that one.")


def is_ours(
    connection: sqlite3.Connection, path: Path | str, version: int, schema: Sequence[str]
) -> bool:
    """True if a file is a database of lllm; False if it is empty.

    Args:
        connection: To the file.
        path: The file, for errors.
        version: The newest format that is known here.
        schema: Statements that make a new file.

    Raises:
        LogError: Another program made it, or somebody changed its tables.
        LogTooNew: A newer lllm made it.
        LogDamaged: A table is missing.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LogError(_ANOTHERS.format(path))
        return False
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise LogTooNew(
            f"{path} has format {found}; this lllm knows formats up to {version}. "
            "Upgrade lllm to open it."
        )
    _refuse_strange(connection, path, schema)
    return True


def _refuse_strange(
    connection: sqlite3.Connection, path: Path | str, schema: Sequence[str]
) -> None:
    """Refuse lllm's tables and views if somebody changed them or added a trigger.

    A statement of ours would run what somebody else wrote (https://sqlite.org/security.html).
    Tables, views and triggers of a user's own may stand beside them.

    Raises:
        LogError: There is one.
        LogDamaged: A table is missing.
    """
    wanted = {statement.split()[2]: _plain(statement) for statement in schema}
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    bases = {match[1] for _, name, _, _ in found if (match := _ROWS.fullmatch(str(name)))}
    for kind, name, table, sql in found:
        rows = _ROWS.fullmatch(str(table))
        if name in wanted:
            strange = _plain(str(sql)) != wanted.pop(name)
        elif name in bases:
            strange = kind != "view" or not re.fullmatch(
                rf"CREATE VIEW {name} AS SELECT \* FROM {name}_v\d+", str(sql)
            )
        elif rows or table in (*_LOGS, "checkpoints"):
            strange = kind in ("trigger", "view") or (kind == "table" and "GENERATED" in str(sql))
        else:
            strange = False
        if strange:
            raise LogError(
                f"{path}: the {kind} {name!r} is not as lllm makes it; somebody changed the file. "
                "Restore it from a backup."
            )
    missing = [name for name, sql in wanted.items() if sql.startswith("CREATE TABLE")]
    if missing:
        raise LogDamaged(
            f"{path}: there is no {missing[0]!r} in it. Restore it from a backup.", position=0
        )


def names_of_lllm(schema: Sequence[tuple[str, str, str, str]]) -> set[str]:
    """List the tables and views of lllm in a file: the log, and the rows of projections.

    Args:
        schema: The type, name, tbl_name and sql of each entry of sqlite_master.
    """
    views = {str(name) for kind, name, _, _ in schema if kind == "view"}
    found = {*_LOGS, "checkpoints"}
    for kind, name, _, _ in schema:
        rows = _ROWS.fullmatch(str(name))
        if str(name).startswith(("sqlite_", "checkpoints_damaged_")):
            found.add(str(name))
        if kind == "table" and rows and rows[1] in views:
            found |= {str(name), rows[1]}
    return found


def _plain(sql: str) -> str:
    return " ".join(sql.split())


class FileErrors:
    """A `with` that turns errors of sqlite3 and of the file system into lllm's.

    They name the path and what to do.

    Args:
        path: The file.
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

    For any other error, nothing happens: whoever has it raises it.

    Args:
        error: What was raised, None for nothing.
        path: The file.

    Raises:
        LogError: The error of ours.
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
        # What SQLite says or reads is no text: sqlite3 has no error of its own for either.
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
