"""The SQL that tells whether VACUUM FULL copies dead rows, because somebody can see them."""

from __future__ import annotations

SNAPSHOT_SECONDS = 10.0  # to wait for the transactions that can see what is dead
PAUSE = 0.1  # seconds between two looks

NEXT_TRANSACTION = "SELECT CAST(pg_current_xact_id() AS text)"


def held_back(number: str) -> str:
    """Make the statement that tells whether anything can see what died before a transaction.

    That is a snapshot or a transaction in this database, a prepared one, a replication slot, or a
    standby that tells the primary about its queries.

    Args:
        number: The parameter with the number of the transaction, as text.

    Returns:
        A SELECT of one boolean.
    """
    return f"""
        SELECT EXISTS (SELECT FROM (
            SELECT backend_xmin AS old FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                AND (datname = current_database() OR datname IS NULL)
            UNION ALL SELECT backend_xid FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND datname = current_database()
            UNION ALL SELECT transaction FROM pg_prepared_xacts
                WHERE database = current_database()
            UNION ALL SELECT xmin FROM pg_replication_slots
            UNION ALL SELECT catalog_xmin FROM pg_replication_slots
        ) AS found WHERE old IS NOT NULL AND age(old) > age(CAST(CAST({number} AS xid8) AS xid)))
        OR CAST(coalesce(current_setting('vacuum_defer_cleanup_age', true), '0') AS bigint) > 0"""
