"""Erases payloads in an SQLite log, and what SQLite keeps of them elsewhere in the file.

`PRAGMA secure_delete` is on for every connection, so what a row held is overwritten with zeros
where it stood (https://sqlite.org/pragma.html#pragma_secure_delete). That is not all: when rows are
moved from a full page to another, copies stay in the gaps, and other programs may have deleted
without it. Only a VACUUM, which writes the whole file anew, removes those.

The trigger that forbids UPDATE is dropped and made again in the transaction that erases. So nothing
else can pass meanwhile: others see the file before that transaction, or after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.backends.sqlite.database import Database
from lllm.events.envelope import Recorded

_GUARDS = """SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'events'
             AND name LIKE 'events\\_are\\_never\\_%' ESCAPE '\\' AND sql LIKE '%BEFORE UPDATE%'"""
_ERASE = "UPDATE events SET data = ? WHERE position = ? AND stream = ? AND seq = ?"


def erase_rows(database: Database, erased: Sequence[Recorded]) -> None:
    """Overwrite the payloads of some rows; see ErasesPayloads.

    Args:
        database: The log's file.
        erased: The events as they are afterwards.

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
    database.empty_write_ahead_log()


def vacuum(database: Database) -> bool:
    """Write the file anew without anything that was deleted; see ErasesPayloads.

    Args:
        database: The file.
    """
    if database.path == ":memory:":
        return True
    database.vacuum()
    return database.empty_write_ahead_log()
