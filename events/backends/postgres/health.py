"""Reports the size and format of a log in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lllm.events.backends.postgres import schema as tables
from lllm.events.backends.postgres.binary_values import BIGINT, TEXT, decode_bigint, encode_bigint
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.read_events import Ask
from lllm.events.health import Health

if TYPE_CHECKING:
    from lllm.events.backends.postgres.backend import PostgresBackend

# A table that is not partitioned has no partition tree.
_SIZE = Statement(
    "SELECT coalesce(sum(pg_total_relation_size(relid))::bigint,"
    " pg_total_relation_size($1::regclass)) FROM pg_partition_tree($1::regclass)",
    (TEXT,),
)


def health_of(log: PostgresBackend, ask: Ask, head: int, read_bytes: int | None) -> Health:
    """Report the state of a log.

    Args:
        log: The log.
        ask: Executes a statement on any connection.
        head: The last position that the report covers.
        read_bytes: How many bytes may be read to count the events; None for no limit.

    Returns:
        The report.
    """
    quoted = tables.identifier(log.schema)

    def size_of(table: str) -> int:
        found = ask(_SIZE, (f"{quoted}.{table}".encode(),))
        return decode_bigint(found.get_value(0, 0) or b"")

    envelopes, payloads = size_of("events"), size_of("payloads")
    events = None
    if read_bytes is None or envelopes <= read_bytes:
        count = Statement(f"SELECT count(*) FROM {quoted}.events WHERE position <= $1", (BIGINT,))
        events = decode_bigint(ask(count, (encode_bigint(head),)).get_value(0, 0) or b"")
    version = ask(Statement(f"SELECT max(version)::bigint FROM {quoted}.format"), ())
    return Health(
        kind="PostgreSQL",
        url=log.path,
        format=decode_bigint(version.get_value(0, 0) or b""),
        durability="power",
        bytes=envelopes + payloads,
        events=events,
    )
