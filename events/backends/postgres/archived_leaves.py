"""Removes events from a log in PostgreSQL for an archive, and reads the digests that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lllm.events.backend import DIGESTS_AT_ONCE, DigestPage
from lllm.events.backends.postgres.binary_values import (
    BIGINT,
    BIGINT_ARRAY,
    BYTEA_ARRAY,
    decode_bigint,
    encode_bigints,
    encode_byte_strings,
)
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.errors import UNDEFINED_TABLE, ServerRefused
from lllm.events.backends.postgres.privileges import FunctionPrivilege
from lllm.events.backends.postgres.read_events import Ask, digest_pages
from lllm.events.errors import LogDamaged


class ArchivedLeaves:
    """The digests of the events that left one log.

    Args:
        schema: The name of the schema, quoted.
        shown: The log's URL for messages.
        ask: Executes a statement on any connection.
    """

    def __init__(self, schema: str, shown: str, ask: Ask) -> None:
        self._shown = shown
        self._ask = ask
        self._remove = Statement(
            f"SELECT {schema}.remove_events($1, $2)", (BIGINT_ARRAY, BYTEA_ARRAY)
        )
        self._privilege = FunctionPrivilege(schema, "remove_events", "bigint[],bytea[]", ask)
        self._page = Statement(
            f"SELECT position, digest FROM {schema}.archived_leaves"
            " WHERE position > $1 AND position <= $2"
            f" ORDER BY position LIMIT {DIGESTS_AT_ONCE}",
            (BIGINT, BIGINT),
        )

    def refusal(self) -> str | None:
        """Say why no events can leave these tables with this role; None if they can.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return self._privilege.refusal()

    def remove(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Remove events and keep their digests, in one transaction; see `RemovesEvents`.

        Args:
            leaves: The positions and digests of the events, in order.

        Raises:
            LogDamaged: An event has another digest, or is missing.
            LogUnavailable: The server can't be reached, or the role may not remove events.
        """
        if not leaves:
            return
        positions, digests = zip(*leaves, strict=True)
        given = encode_bigints(positions), encode_byte_strings(digests)
        wrong = self._ask(self._remove, given).get_value(0, 0)
        if wrong is not None:
            position = decode_bigint(wrong)
            raise LogDamaged(
                f"{self._shown}: the event at position {position} is not the one that was "
                "archived; nothing was removed. `lllm verify` lists all damage.",
                position=position,
            )

    def pages(self, after: int, upto: int) -> Iterator[DigestPage]:
        """Read the digests of events that left; see `KeepsLeaves`.

        Args:
            after: Read those after this position.
            upto: The last position to read.

        Yields:
            Pages of positions and digests, in order.
        """
        try:
            yield from digest_pages(lambda given: self._ask(self._page, given), after, upto)
        except ServerRefused as error:
            if error.sqlstate != UNDEFINED_TABLE:  # which tables of an earlier lllm lack
                raise
