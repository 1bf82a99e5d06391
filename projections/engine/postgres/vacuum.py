"""Rewrites the tables of rows in PostgreSQL, so that no copy of a deleted row is left in a file.

ANALYZE keeps samples of columns in the system's table pg_statistic, which are copies of texts, too.
It keeps the old samples of a table that has become empty, so such a table gets a row for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lllm.events.backends.postgres.old_snapshots import (
    NEXT_TRANSACTION,
    PAUSE,
    SNAPSHOT_SECONDS,
    held_back,
)
from lllm.projections.engine.postgres.connection import PostgresConnection

# Of the system's tables, a superuser and the owner of the database may rewrite those of samples.
_MAY_REWRITE_SAMPLES = """
    SELECT pg_has_role(datdba, 'USAGE') OR (
        SELECT rolsuper FROM pg_roles WHERE rolname = current_user
    ) FROM pg_database WHERE datname = current_database()"""
_REQUIRED = """
    SELECT string_agg(quote_ident(attname), ', '),
        string_agg(CASE WHEN typcategory IN ('N', 'B') THEN '0' ELSE '''''' END, ', ')
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = CAST(? AS regclass) AND attnum > 0 AND attnotnull AND NOT attisdropped"""


def rewrite_tables(connection: PostgresConnection, names: Sequence[str]) -> bool:
    """Rewrite tables, one after the other; each is locked meanwhile.

    Args:
        connection: The connection that writes rows, without an open transaction.
        names: The names of the tables.

    Returns:
        False if somebody could still see what was deleted, so that copies of it may be left.

    Raises:
        LogUnavailable: A table is in use for too long, or there is no space for a copy.
    """
    ended = _snapshots_ended(connection)
    for name in names:  # not in a transaction, which VACUUM refuses
        if not connection.execute(f"SELECT EXISTS (SELECT FROM {name})").fetchone()[0]:
            _forget_samples(connection, name)
        connection.execute_long(f"VACUUM (FULL, ANALYZE) {name}")
    if connection.execute(_MAY_REWRITE_SAMPLES).fetchone()[0]:
        ended = _snapshots_ended(connection) and ended
        connection.execute_long("VACUUM (FULL) pg_catalog.pg_statistic")
    return ended


def _forget_samples(connection: PostgresConnection, name: str) -> None:
    """Replace the samples of an empty table by those of one row without a text."""
    columns, values = connection.execute(_REQUIRED, (name,)).fetchone()
    connection.execute("BEGIN")
    try:
        connection.execute(f"INSERT INTO {name} ({columns}) VALUES ({values})")
        connection.execute(f"ANALYZE {name}")
        connection.execute(f"DELETE FROM {name}")
        connection.execute("COMMIT")
    finally:
        connection.end_transaction()


def _snapshots_ended(connection: PostgresConnection) -> bool:
    """Wait until nobody can see what was deleted before; False if that takes too long."""
    until = time.monotonic() + SNAPSHOT_SECONDS
    now = connection.execute(NEXT_TRANSACTION).fetchone()[0]
    while connection.execute(held_back("?"), (now,)).fetchone()[0]:
        if time.monotonic() > until:
            return False
        time.sleep(PAUSE)
    return True
