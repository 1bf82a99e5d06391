"""Checks that an SQLite file belongs to lllm, before anything is written to it."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lllm.events.backends.sqlite.schema import ARCHIVED_SCHEMA
from lllm.events.errors import LogDamaged, LogError, LogTooNew

APPLICATION_ID = 0x6C6C6C6D  # "lllm" in ASCII, the application id in the file's header
# the suffixes of the files that SQLite creates beside a database
_BESIDE = ("-wal", "-shm", "-journal")
# the name of a table with rows of a projection
_ROWS = re.compile(r"([A-Za-z_]\w*)_v\d+", re.ASCII)
# the same for a search index and its tables
_INDEX = re.compile(r"\w+_v\d+_search(?=_|$)", re.ASCII)
_LOGS = ("events", "archived_leaves")
_ANOTHERS = "{} is a database of another program; give lllm a file of its own."


def refuse_others(file: Path) -> None:
    """Raise an error if a file is not one of lllm's, before anything is created beside it.

    The header is read by SQLite, not by opening the file: if the file is already open in this
    process, closing another descriptor would release its locks
    (https://sqlite.org/howtocorrupt.html, section 2.2). If the write-ahead log has changes, the
    header may be outdated; then the check is left to the code that opens the file together with
    that log.

    Args:
        file: The file that is about to be opened.

    Raises:
        LogError: Another program made the file.
    """
    if not file.is_file() or file.stat().st_size == 0:
        return
    # Immutable: SQLite takes no locks and creates no files beside this one.
    with closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as connection:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION_ID and not os.path.exists(f"{file}-wal"):
        raise LogError(_ANOTHERS.format(file))


def refuse_parts(file: Path) -> None:
    """Raise an error if a file is one that SQLite creates beside a database, such as `-wal`.

    If such a file were opened as a database, its locks would be lost (see `refuse_others`).

    Args:
        file: The file that is about to be opened.

    Raises:
        LogError: The name is that of such a file, and the database is beside it.
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
        connection: A connection to the file.
        path: The file, for the texts of errors.
        version: The newest format that this version of lllm can read.
        schema: The SQL statements that create the tables of a new file.

    Returns:
        True for a database of lllm, False for an empty file.

    Raises:
        LogError: Another program made the file, or its tables were changed.
        LogTooNew: A newer lllm wrote the file.
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
    """Raise an error if lllm's tables or views were changed, or have a trigger.

    Otherwise a statement of lllm would run SQL that somebody else wrote
    (https://sqlite.org/security.html). Other tables, views and triggers of the user are allowed.

    Raises:
        LogError: A table or view was changed, or has a trigger.
        LogDamaged: A table is missing.
    """
    wanted = {statement.split()[2]: _plain(statement) for statement in schema}
    archived = {statement.split()[2]: _plain(statement) for statement in ARCHIVED_SCHEMA}
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    bases = {match[1] for _, name, _, _ in found if (match := _ROWS.fullmatch(str(name)))}
    for kind, name, table, sql in found:
        rows = _ROWS.fullmatch(str(table))
        if name in wanted:
            strange = _plain(str(sql)) != wanted.pop(name)
        elif name in archived:
            strange = _plain(str(sql)) != archived[name]
        elif name in bases:
            strange = kind != "view" or not re.fullmatch(
                rf"CREATE VIEW {name} AS SELECT \* FROM {name}_v\d+", str(sql)
            )
        elif _INDEX.fullmatch(str(name)):
            strange = not str(sql).startswith(f"CREATE VIRTUAL TABLE {name} USING fts5(")
        elif rows or _INDEX.match(str(table)) or table in (*_LOGS, "checkpoints", "otel_sent"):
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


def missing_guards(connection: sqlite3.Connection, schema: Sequence[str]) -> list[str]:
    """List the statements that create triggers on INSERT which a log lacks.

    Logs of the first versions of lllm have none.

    Args:
        connection: A connection to the log.
        schema: The SQL statements that create the tables of a new log.

    Returns:
        The statements.
    """
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    there = {str(name) for (name,) in found}
    return [sql for sql in schema if "BEFORE INSERT" in sql and sql.split()[2] not in there]


def names_of_lllm(schema: Sequence[tuple[str, str, str, str]]) -> set[str]:
    """List the tables and views of lllm in a file: the events, and the rows of projections.

    Args:
        schema: The type, name, tbl_name and sql of each entry of sqlite_master.

    Returns:
        The names.
    """
    views = {str(name) for kind, name, _, _ in schema if kind == "view"}
    found = {"events", "checkpoints", "otel_sent"}
    for kind, name, _, _ in schema:
        rows = _ROWS.fullmatch(str(name))
        if str(name).startswith(("sqlite_", "checkpoints_damaged_")):
            found.add(str(name))
        if kind == "table" and rows and rows[1] in views:
            found |= {str(name), rows[1]}
        if kind == "table" and _INDEX.match(str(name)):
            found.add(str(name))
    return found


def _plain(sql: str) -> str:
    return " ".join(sql.split())
