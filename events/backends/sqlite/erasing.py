"""Erases payloads in an SQLite log, and the copies that SQLite has elsewhere in the file.

`PRAGMA secure_delete` is on for every connection, so the old content of a row is overwritten with
zeros in place (https://sqlite.org/pragma.html#pragma_secure_delete). This does not remove all
copies: when rows are moved from a full page to another, copies stay in unused space, and other
programs may have deleted rows without it. Only a VACUUM, which rewrites the whole file, removes
these.

The trigger that forbids UPDATE is dropped and created again in the transaction that erases. Other
connections see the file before or after that transaction, so the trigger protects it at all times.
"""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.backends.sqlite.database import Database
from lllm.events.envelope import Recorded

_GUARDS = """SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'events'
             AND name LIKE 'events\\_are\\_never\\_%' ESCAPE '\\' AND sql LIKE '%BEFORE UPDATE%'"""
_ERASE = "UPDATE events SET data = ? WHERE position = ? AND stream = ? AND seq = ?"


def erase_rows(database: Database, erased: Sequence[Recorded]) -> None:
    """Overwrite the payloads of some rows; see `ErasesPayloads.erase_payloads`.

    Args:
        database: The database of the log.
        erased: The events without their payloads, as `digest.erase` makes them.

    Raises:
        LogUnavailable: The file can't be written.
    """
    writing = database.write()
    try:
        with writing as connection:
            assert connection is not None
            guards = connection.execute(_GUARDS).fetchall()
            for name, _ in guards:
                connection.execute(f'DROP TRIGGER "{name}"')
            connection.executemany(
                _ERASE, [(one.data.decode(), one.position, one.stream, one.seq) for one in erased]
            )
            for _, sql in guards:
                connection.execute(sql)
    finally:
        writing.abandon()


def vacuum(database: Database) -> bool:
    """Rewrite the file without deleted data; see `ErasesPayloads.vacuum`.

    Args:
        database: The database of the log.

    Returns:
        False if a reader still uses an older state of the file, so that this has to be repeated
        later.
    """
    if database.path == ":memory:":
        return True
    database.vacuum()
    return database.empty_write_ahead_log()
