"""The call of the function that appends events; see `schema`."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.backends.postgres import schema as tables
from lllm.events.backends.postgres.binary_values import (
    BIGINT_ARRAY,
    BYTEA_ARRAY,
    TEXT_ARRAY,
    encode_bigints,
    encode_byte_strings,
    encode_texts,
)
from lllm.events.backends.postgres.connection import Statement
from lllm.events.envelope import NewEvent, refuse_too_large, too_large
from lllm.events.errors import AppendTooLarge

_MESSAGE_BYTES = 900 << 20  # a message of the server's protocol has less than 1 GiB
_TYPES = (
    TEXT_ARRAY, BIGINT_ARRAY, BIGINT_ARRAY, TEXT_ARRAY, BIGINT_ARRAY, BYTEA_ARRAY, BYTEA_ARRAY,
)  # fmt: skip


def append_statement(schema: str) -> Statement:
    """Make the statement that appends events.

    Args:
        schema: The name of the schema, quoted.

    Returns:
        The statement.
    """
    return Statement(f"SELECT {schema}.append($1, $2, $3, $4, $5, $6, $7)", _TYPES)


def append_parameters(events: Sequence[NewEvent]) -> Sequence[bytes]:
    """Encode events as parameters of the statement.

    Args:
        events: The events; at least one.

    Returns:
        The parameters.
    """
    return (
        encode_texts([event.stream for event in events]),
        encode_bigints([event.seq for event in events]),
        encode_bigints([event.time for event in events]),
        encode_texts([event.type for event in events]),
        encode_bigints([event.version for event in events]),
        encode_byte_strings([event.digest for event in events]),
        encode_byte_strings([event.data for event in events]),
    )


def refuse_too_many(events: Sequence[NewEvent]) -> int:
    """Raise an error if events exceed what the server takes at once.

    Args:
        events: The events of an append.

    Returns:
        The size of their payloads together, in bytes.

    Raises:
        AppendTooLarge: They are too many, or too long.
    """
    refuse_too_large(events)
    size = sum(len(event.data) for event in events)
    if size > _MESSAGE_BYTES:
        raise too_large(size, _MESSAGE_BYTES, f"An append with {len(events)} events")
    if len(events) > tables.BLOCK:
        raise AppendTooLarge(
            f"An append with {len(events):,} events is not stored: a log in PostgreSQL takes at "
            f"most {tables.BLOCK:,} at once."
        )
    return size
