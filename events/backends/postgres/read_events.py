"""Reads events in pages; between two pages, no transaction or connection is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lllm.events.backend import DIGESTS_AT_ONCE, DigestPage
from lllm.events.backends.postgres.binary_values import (
    BIGINT,
    BIGINT_ARRAY,
    TEXT,
    TEXT_ARRAY,
    decode_bigint,
    encode_bigint,
    encode_bigints,
)
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_EVENTS = 1_000  # events in a page
_BYTES = 8 << 20  # bytes of payloads from which a page is full
_UNDEFINED_TABLE = "42P01"

Ask = Callable[[Statement, Sequence[bytes | None]], "PGresult"]


class EventReader:
    """Reads the tables of a log.

    Args:
        schema: The name of the schema, quoted.
        shown: The log's URL for messages.
        ask: Executes a statement on any connection.
    """

    def __init__(self, schema: str, shown: str, ask: Ask) -> None:
        self._shown = shown
        self._ask = ask
        types = (BIGINT, BIGINT)
        self._all = Statement(_page(schema, ""), types)
        self._stream = Statement(_page(schema, "AND e.stream = $3"), (*types, TEXT))
        self._types = Statement(_page(schema, "AND e.type = ANY($3)"), (*types, TEXT_ARRAY))
        self._kept = Statement(
            f"SELECT position, data FROM {schema}.kept_payloads WHERE position = ANY ($1)",
            (BIGINT_ARRAY,),
        )
        self._digests = Statement(
            f"SELECT position, digest FROM {schema}.events WHERE position > $1 AND position <= $2"
            f" ORDER BY position LIMIT {DIGESTS_AT_ONCE}",
            types,
        )

    def read(self, after: int, upto: int, stream: str | None) -> Iterator[Recorded]:
        """Read the events of a range of positions; see `LogBackend.read`."""
        if stream is None:
            return self._pages(self._all, after, upto)
        return self._pages(self._stream, after, upto, stream.encode())

    def read_types(self, types: bytes, after: int, upto: int) -> Iterator[Recorded]:
        """Read the events of some types; see `ReadsByType`.

        Args:
            types: The types, as a parameter of the type TEXT_ARRAY.
            after: Read the events after this position.
            upto: The last position to read.

        Returns:
            The events, in order of their positions.
        """
        return self._pages(self._types, after, upto, types)

    def read_digests(self, after: int, upto: int) -> Iterator[DigestPage]:
        """Read the digests of all events; see `ReadsDigests`."""
        while after < upto:
            found = self._ask(self._digests, (encode_bigint(after), encode_bigint(upto)))
            page = [
                (decode_bigint(found.get_value(row, 0) or b""), found.get_value(row, 1) or b"")
                for row in range(found.ntuples)
            ]
            if page:
                yield page
                after = page[-1][0]
            if len(page) < DIGESTS_AT_ONCE:
                return

    def _pages(
        self, statement: Statement, after: int, upto: int, *parameters: bytes
    ) -> Iterator[Recorded]:
        while after < upto:
            given = (encode_bigint(after), encode_bigint(upto), *parameters)
            found = self._ask(statement, given)
            size = 0
            kept = self._kept_of(found)
            for row in range(found.ntuples):
                event = self._event(found, row, kept)
                size += len(event.data)
                after = event.position
                yield event
            if found.ntuples < _EVENTS and size < _BYTES:
                return

    def _kept_of(self, found: PGresult) -> Mapping[int, bytes]:
        """Read what stays of the payloads that are not in a page, because they were erased."""
        missing = [
            decode_bigint(found.get_value(row, 0) or b"")
            for row in range(found.ntuples)
            if found.get_value(row, 7) is None
        ]
        if not missing:
            return {}
        try:
            kept = self._ask(self._kept, (encode_bigints(missing),))
        except ServerRefused as error:
            if error.sqlstate == _UNDEFINED_TABLE:  # a log in which nothing can be erased yet
                return {}
            raise
        return {
            decode_bigint(kept.get_value(row, 0) or b""): kept.get_value(row, 1) or b""
            for row in range(kept.ntuples)
        }

    def _event(self, found: PGresult, row: int, kept: Mapping[int, bytes]) -> Recorded:
        position, stream, seq, time, type_, version, digest, data = (
            found.get_value(row, column) for column in range(8)
        )
        at, name = decode_bigint(position or b""), (stream or b"").decode()
        if data is None:
            data = kept.get(at)
        if data is None:
            raise LogDamaged(
                f"{self._shown}, position {at}: the payload of event {decode_bigint(seq or b'')} "
                f"of {name!r} is missing in the table of payloads. Restore it from a backup.",
                position=at,
                stream=name,
            )
        return Recorded(
            at, name, decode_bigint(seq or b""), decode_bigint(time or b""),
            (type_ or b"").decode(), decode_bigint(version or b""), data, digest or b"",
        )  # fmt: skip


def _page(schema: str, condition: str) -> str:
    """Make the statement for a page, which ends early if its payloads are long.

    The length of a payload is known without reading it.
    """
    return f"""
        SELECT position, stream, seq, time, type, version, digest, data FROM (
            SELECT e.*, p.data,
                sum(octet_length(p.data)) OVER (
                    ORDER BY e.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before
            FROM (
                SELECT * FROM {schema}.events AS e
                WHERE e.position > $1 AND e.position <= $2 {condition}
                ORDER BY e.position LIMIT {_EVENTS}
            ) AS e LEFT JOIN {schema}.payloads AS p USING (position)
        ) AS page WHERE coalesce(before, 0) < {_BYTES} ORDER BY position"""
