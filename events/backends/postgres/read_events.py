"""Reads events in pages; between two pages, no transaction or connection is held.

From the second page on, a thread reads the next page while the caller uses one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.events.backend import DIGESTS_AT_ONCE, DigestPage
from lllm.events.backends.postgres.binary_values import (
    BIGINT,
    BIGINT_ARRAY,
    TEXT,
    TEXT_ARRAY,
    decode_bigint,
    encode_bigint,
    encode_bigints,
    encode_texts,
)
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.connection_pool import ConnectionPool
from lllm.events.backends.postgres.errors import UNDEFINED_TABLE, ServerRefused
from lllm.events.backends.postgres.read_ahead import PageAhead
from lllm.events.codec import is_utf8
from lllm.events.concurrency.late_imports import importing
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Ask = Callable[[Statement, Sequence[bytes | None]], "PGresult"]

_FIRST_EVENTS = 1_000  # events in the first page
_EVENTS = 4_000  # events in each page after it
_BYTES = 8 << 20  # bytes of payloads from which a page is full

# position, stream, seq, time, type, version, payload, digest: what a Recorded has, in its order
_Row = tuple[int, str, int, int, str, int, bytes | None, bytes]


class _Pages(NamedTuple):
    """The statements for the first page, and for those after it."""

    first: Statement
    others: Statement


class EventReader:
    """Reads the tables of a log.

    Args:
        schema: The name of the schema, quoted.
        shown: The log's URL for messages.
        pool: The connections.
    """

    def __init__(self, schema: str, shown: str, pool: ConnectionPool) -> None:
        self._shown = shown
        self._pool = pool
        types = (BIGINT, BIGINT)
        some = "type = ANY($3)"
        self._all = _pages(schema, types)
        self._stream = _pages(schema, (*types, TEXT), events="AND stream = $3")
        self._types = _pages(schema, (*types, TEXT_ARRAY), events=f"AND {some}")
        self._some = _pages(schema, (*types, TEXT_ARRAY), payloads=f"e.{some}")
        self._parts = Statement(_page_of_parts(schema), (TEXT_ARRAY, BIGINT_ARRAY, BIGINT_ARRAY))
        self._positions = Statement(
            _page(schema, _FIRST_EVENTS, "position = ANY($1)"), (BIGINT_ARRAY,)
        )
        self._kept = Statement(
            f"SELECT position, data FROM {schema}.kept_payloads WHERE position = ANY ($1)",
            (BIGINT_ARRAY,),
        )
        self._digests = Statement(
            f"SELECT position, digest FROM {schema}.events WHERE position > $1 AND position <= $2"
            f" ORDER BY position LIMIT {DIGESTS_AT_ONCE}",
            types,
        )
        self._all_digests = Statement(
            f"SELECT position, digest FROM {schema}.events WHERE position > $1 AND position <= $2"
            f" UNION ALL SELECT position, digest FROM {schema}.archived_leaves"
            f" WHERE position > $1 AND position <= $2 ORDER BY position LIMIT {DIGESTS_AT_ONCE}",
            types,
        )

    def read(self, after: int, upto: int, stream: str | None) -> Iterator[Recorded]:
        """Read the events of a range of positions; see `LogBackend.read`."""
        if stream is None:
            return self._events(self._all, after, upto)
        return self._events(self._stream, after, upto, stream.encode())

    def read_types(self, types: Collection[str], after: int, upto: int) -> Iterator[Recorded]:
        """Read the events of some types; see `ReadsByType`."""
        return self._events(self._types, after, upto, encode_texts(sorted(types)))

    def read_with_digests(
        self, types: Collection[str], after: int, upto: int
    ) -> Iterator[Recorded | tuple[int, bytes]]:
        """Read the events of some types, and the digests of others; see `ReadsWithDigests`."""
        wanted = frozenset(types) or {""}
        given = encode_texts(sorted(wanted))
        for page in self._pages(self._some, after, upto, given):
            for row in self._with_kept(page, wanted):
                yield _recorded(row) if row[4] in wanted else (row[0], row[7])

    def read_streams(self, parts: Sequence[tuple[str, int, int]]) -> Iterator[Recorded]:
        """Read parts of several streams; see `ReadsParts`.

        Args:
            parts: The streams, each with the position before its part, and the last one; at least
                one.

        Yields:
            The events.
        """
        left = [part for part in parts if is_utf8(part[0])]  # no stream has another name
        while left:
            streams, after, upto = zip(*left, strict=True)
            given = (encode_texts(streams), encode_bigints(after), encode_bigints(upto))
            page: list[tuple[int, *_Row]] = _decoded(self._pool.ask(self._parts, given))
            rows = [row[1:] for row in page]
            yield from map(_recorded, self._with_kept(rows))
            if not _is_full(rows, _FIRST_EVENTS):
                return
            left = left[page[-1][0] - 1 :]
            left[0] = (left[0][0], page[-1][1], left[0][2])

    def read_positions(self, positions: Sequence[int]) -> Iterator[Recorded]:
        """Read the events at some positions; see `ReadsParts`."""
        left = sorted(set(positions))
        while left:
            page = _decoded(self._pool.ask(self._positions, (encode_bigints(left),)))
            yield from map(_recorded, self._with_kept(page))
            if not _is_full(page, _FIRST_EVENTS):
                return
            left = [at for at in left if at > page[-1][0]]

    def read_digests(self, after: int, upto: int) -> Iterator[DigestPage]:
        """Read the digests of all events, also of those that left; see `ReadsDigests`."""
        return digest_pages(self._ask_for_digests, after, upto)

    def _ask_for_digests(self, given: Sequence[bytes]) -> PGresult:
        try:
            return self._pool.ask(self._all_digests, given)
        except ServerRefused as error:
            if error.sqlstate != UNDEFINED_TABLE:
                raise
            return self._pool.ask(self._digests, given)  # in tables of an earlier lllm

    def _events(
        self, statements: _Pages, after: int, upto: int, *parameters: bytes
    ) -> Iterator[Recorded]:
        for page in self._pages(statements, after, upto, *parameters):
            yield from map(_recorded, self._with_kept(page))

    def _pages(
        self, statements: _Pages, after: int, upto: int, *parameters: bytes
    ) -> Iterator[list[_Row]]:
        if after >= upto:
            return
        given = (encode_bigint(after), encode_bigint(upto), *parameters)
        found, most = self._pool.ask(statements.first, given), _FIRST_EVENTS
        while True:
            page = _decoded(found)
            if not _is_full(page, most) or page[-1][0] >= upto:
                yield page
                return
            given = (encode_bigint(page[-1][0]), *given[1:])
            ahead, most = PageAhead(self._pool, statements.others, given), _EVENTS
            yield page
            del page
            found = ahead.result()

    def _with_kept(self, page: Sequence[_Row], wanted: Collection[str] = ()) -> Iterator[_Row]:
        """Add what stays of payloads that are not in their table, because they were erased.

        Args:
            page: The rows of a page.
            wanted: The types whose payloads were read; none for all.

        Yields:
            The rows.

        Raises:
            LogDamaged: A payload is missing; the rows before it were yielded.
        """
        missing = [row[0] for row in page if row[6] is None and (not wanted or row[4] in wanted)]
        if not missing:
            yield from page
            return
        kept = self._kept_of(missing)
        lost = frozenset(missing) - kept.keys()
        for row in page:
            position, stream, seq, time, type_, version, data, digest = row
            if position in lost:
                raise LogDamaged(
                    f"{self._shown}, position {position}: the payload of event {seq} of {stream!r} "
                    "is missing in the table of payloads. Restore it from a backup.",
                    position=position,
                    stream=stream,
                )
            data = kept.get(position, data)
            yield position, stream, seq, time, type_, version, data, digest

    def _kept_of(self, positions: Sequence[int]) -> Mapping[int, bytes]:
        """Read what stays of payloads that were erased, by their positions."""
        try:
            found = self._pool.ask(self._kept, (encode_bigints(positions),))
        except ServerRefused as error:
            if error.sqlstate == UNDEFINED_TABLE:  # a log in which nothing can be erased yet
                return {}
            raise
        kept: list[tuple[int, bytes]] = _decoded(found)
        return dict(kept)


def digest_pages(
    ask: Callable[[Sequence[bytes]], PGresult], after: int, upto: int
) -> Iterator[DigestPage]:
    """Read positions and digests, page by page.

    Args:
        ask: Reads at most DIGESTS_AT_ONCE rows, in order, after one position and up to another,
            which it gets in binary form.
        after: Read those after this position.
        upto: The last position to read.

    Yields:
        Pages of positions and digests, in order.
    """
    while after < upto:
        found = ask((encode_bigint(after), encode_bigint(upto)))
        page = [
            (decode_bigint(found.get_value(row, 0) or b""), found.get_value(row, 1) or b"")
            for row in range(found.ntuples)
        ]
        if page:
            yield page
            after = page[-1][0]
        if len(page) < DIGESTS_AT_ONCE:
            return


def _is_full(page: Sequence[_Row], most: int) -> bool:
    return len(page) >= most or sum(len(row[6] or b"") for row in page) >= _BYTES


def _recorded(row: _Row) -> Recorded:
    return Recorded(*row)  # type: ignore[arg-type]  # a missing payload was found, or is an error


def _decoded(found: PGresult) -> list[Any]:
    """Decode the rows of a result in binary form, in psycopg's compiled code if it has any."""
    with importing():
        from psycopg.adapt import Transformer
        from psycopg.pq import Format

    decoder = Transformer()
    decoder.set_pgresult(found, format=Format.BINARY)
    return decoder.load_rows(0, found.ntuples, tuple)


def _pages(
    schema: str, types: Sequence[int], *, events: str = "", payloads: str | None = None
) -> _Pages:
    """Make the statements for pages, which end early if their payloads are long.

    The length of a payload is known without reading it. Each payload is looked up by itself: for a
    long page, a join might read the whole table.

    Args:
        schema: The name of the schema, quoted.
        types: The numbers of the parameters' types.
        events: A condition that the events match besides their range.
        payloads: A condition for the events `e` whose payloads are read; None for all.

    Returns:
        The statements.
    """
    condition = f"position > $1 AND position <= $2 {events}"
    if not events:
        # Only one index can serve, whatever the positions are. As the plan does not depend on them,
        # the server soon keeps it.
        condition = "position > (SELECT $1) AND position <= (SELECT $2)"
    return _Pages(
        Statement(_page(schema, _FIRST_EVENTS, condition, payloads), types),
        Statement(_page(schema, _EVENTS, condition, payloads), types),
    )


def _page(schema: str, most: int, events: str, payloads: str | None = None) -> str:
    data = f"(SELECT data FROM {schema}.payloads AS p WHERE p.position = e.position)"
    if payloads is not None:
        data = f"CASE WHEN {payloads} THEN {data} END"
    return f"""
        SELECT position, stream, seq, time, type, version, data, digest FROM (
            SELECT *, sum(octet_length(data)) OVER (
                ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS before
            FROM (
                SELECT e.*, {data} AS data FROM {schema}.events AS e
                WHERE {events} ORDER BY position LIMIT {most}
            ) AS e
        ) AS page WHERE coalesce(before, 0) < {_BYTES} ORDER BY position"""


def _page_of_parts(schema: str) -> str:
    """Make the statement for a page of parts of streams; each row begins with the part's number.

    A stream is read by its index, in the order of its numbers: `+ 0` keeps the planner from reading
    all events of a range of positions, of which a long session has a small part.
    """
    return f"""
        SELECT number, position, stream, seq, time, type, version, data, digest FROM (
            SELECT *, sum(octet_length(data)) OVER (
                ORDER BY number, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS before
            FROM (
                SELECT part.number, e.*,
                    (SELECT data FROM {schema}.payloads AS p WHERE p.position = e.position) AS data
                FROM unnest($1, $2, $3) WITH ORDINALITY AS part (name, after, upto, number)
                CROSS JOIN LATERAL (
                    SELECT * FROM {schema}.events
                    WHERE stream = part.name COLLATE "C"
                        AND position + 0 > part.after AND position + 0 <= part.upto
                    ORDER BY seq LIMIT {_FIRST_EVENTS}
                ) AS e
                ORDER BY part.number, e.seq LIMIT {_FIRST_EVENTS}
            ) AS e
        ) AS page WHERE coalesce(before, 0) < {_BYTES} ORDER BY number, seq"""
