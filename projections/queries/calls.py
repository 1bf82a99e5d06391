"""Lists attempts to call a model from their rows, in the requested order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from heapq import merge
from itertools import chain, islice

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.model import State
from lllm.projections.database import RowsConnection
from lllm.projections.dialect import ALL, dialect_of
from lllm.projections.queries import session_tags
from lllm.projections.queries.call_filter_sql import SORTED_BY, walk
from lllm.projections.queries.cursor_sql import CallCursor, begin_behind_call
from lllm.projections.queries.facet_numbers import tag_number
from lllm.projections.queries.filters import CallFilter, CallSort
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.selection import Selection
from lllm.projections.session.step_names import step_name
from lllm.projections.view import storable

_AT_ONCE = 400  # rows that are read at once
_SOME = 50


@warm_msgspec
class CallRow(msgspec.Struct, frozen=True, array_like=True):
    """The row of one attempt; the table `calls` explains its columns.

    Attributes:
        number: The number of the attempt's session.
        state: "success", "failure" or "running"; "interrupted" if its session has ended and the
            attempt has not.
        started: The start of the attempt, nanoseconds UTC.
        elapsed: Nanoseconds from the request to the end of the answer; None if it has not ended.
        first_token: Nanoseconds from the request to the first piece of a stream; None without one.
        cost_nanos: The cost in nano-dollars; None if it is unknown.
        task: The first line of the session's task; None without one.
    """

    number: int
    root: int
    session_id: str
    tactic: str
    agent: str
    request: int
    call: int | None
    step: int
    attempt: int
    provider: str
    host: str
    asked: str
    model: str
    state: State
    status: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    started: int
    elapsed: int | None
    first_token: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    price: str | None
    price_reason: str | None
    cost_nanos: int | None
    wasted: int
    task: str | None


_PLACES = {
    "number": "s.number",
    "root": "s.root",
    "session_id": "s.id",
    "tactic": "s.tactic",
    "task": "s.task",
    "state": (
        "CASE WHEN c.state = 'running' AND s.state <> 'running' THEN 'interrupted' ELSE c.state END"
    ),
    **{name: f"k.{name}" for name in ("agent", "provider", "host", "asked", "model")},
}
_ROW = ", ".join(_PLACES.get(name, f"c.{name}") for name in CallRow.__struct_fields__)


class FoundCall(msgspec.Struct, frozen=True):
    """An attempt in a list.

    Attributes:
        row: The row of the attempt.
        tags: The tags of its session, including those inherited from the root.
        cursor: The cursor with which the list continues after this attempt.
    """

    row: CallRow
    tags: dict[str, str]
    cursor: CallCursor


def list_calls(
    connection: RowsConnection,
    wanted: CallFilter,
    limit: int | None,
    cursor: CallCursor | None,
    sort: CallSort,
) -> list[FoundCall]:
    """List the attempts that a filter selects.

    Known trade-off (accepted): there is no index for the time to the first token or for tokens, so
    a list by these reads every attempt that the other filters select.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the attempts.
        limit: The greatest number of attempts; None for all.
        cursor: The cursor of the last attempt on the previous page; None for the first page.
        sort: The column by which the list is sorted.

    Returns:
        The attempts, the largest by `sort` first. Of equal ones, those of the session that began
        last come first.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    bound = None if wanted.of.tags else limit  # otherwise tags are checked at the end
    keys = _keys(connection, wanted, bound, cursor, sort)
    found: list[FoundCall] = []
    while limit is None or len(found) < limit:
        left = _AT_ONCE if limit is None else limit - len(found)
        if wanted.of.tags:  # some of these may not have the tags
            left = max(left, _SOME)
        left = min(left, _AT_ONCE)
        page = list(islice(keys, left))
        if not page:
            break
        found += _read_page(connection, page, wanted.of.tags)
    return found if limit is None else found[:limit]


def calls_of(connection: RowsConnection, sessions: Collection[int]) -> Iterator[FoundCall]:
    """Read every attempt of some sessions.

    Args:
        connection: A connection to the database of the rows.
        sessions: The numbers of the sessions.

    Yields:
        The attempts, session by session. Their cursors can't be used to continue a list.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    keys = rows_by_key(connection, "SELECT 0, session, request FROM calls WHERE session", sessions)
    cursors = sorted(convert_rows(keys, list[CallCursor], "calls"))
    for start in range(0, len(cursors), _AT_ONCE):
        yield from _read_page(connection, cursors[start : start + _AT_ONCE], {})


def step_names(
    connection: RowsConnection, steps: Collection[tuple[str, int]]
) -> dict[tuple[str, int], str]:
    """Name attempts to call a model, with the names of their agents; see `step_name`.

    Args:
        connection: A connection to the database of the rows.
        steps: The ids of their sessions, and their numbers in these.

    Returns:
        The names, by session and number; unknown attempts are left out.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    names: dict[tuple[str, int], str] = {}
    wanted = sorted(steps)
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        rows = connection.execute(
            "SELECT s.id, c.request, c.step, c.attempt, c.state, k.agent FROM sessions AS s "
            "JOIN calls AS c ON c.session = s.number JOIN call_kinds AS k ON k.kind = c.kind "
            f"WHERE {' OR '.join(['(s.id = ? AND c.request = ?)'] * len(some))}",
            tuple(value for pair in some for value in pair),
        )
        found = convert_rows(list(rows), list[tuple[str, int, int, int, State, str]], "calls")
        for session_id, request, step, attempt, state, agent in found:
            names[session_id, request] = step_name(request, step, attempt, state, agent)
    return names


def _keys(
    connection: RowsConnection,
    wanted: CallFilter,
    limit: int | None,
    cursor: CallCursor | None,
    sort: CallSort,
) -> Iterator[CallCursor]:
    """Find the cursors (sort value, session, request) of attempts, in the order of the list."""
    how = walk(connection, wanted, sort, cursor)
    # If rows are not read in order, all of them are sorted first, and then some are read.
    tags = wanted.of.tags if sort == "started" else {}
    facets = [tag_number(connection, name, tag).facet for name, tag in tags.items()]
    dialect = dialect_of(connection)
    may_have = _MAY_HAVE.format(*map(dialect.contains, _FACETS))
    value = SORTED_BY[sort]

    def run(selection: Selection) -> Iterator[CallCursor]:
        for facet in facets:
            selection.add(may_have, f" {facet} ", f" {facet} ")
        begin_behind_call(selection, cursor, value)
        sql = (
            f"SELECT {value}, c.session, c.request {selection.sql}"
            f" ORDER BY {'+' * how.at_once}{value} DESC, c.session DESC, c.request DESC LIMIT ?"
        )
        if limit is None:
            return dialect.begin_list(connection, sql, (*selection.parameters, ALL))
        return connection.execute(sql, (*selection.parameters, min(limit, ALL)))

    if how.in_turn:
        return chain.from_iterable(map(run, how.selections))
    return merge(*map(run, how.selections), reverse=True)


_FACETS = ("own.facets", "above.facets")
# A session may have the tag if it or its root has; which of the two counts is checked later.
_MAY_HAVE = """EXISTS (
    SELECT 1 FROM sessions AS s
    LEFT JOIN session_tags AS own ON own.session = s.number
    LEFT JOIN session_tags AS above ON above.session = s.root
    WHERE s.number = c.session AND ({} OR {})
)"""


def _read_page(
    connection: RowsConnection, page: Sequence[CallCursor], tags: dict[str, str]
) -> list[FoundCall]:
    """Read a page of attempts, limited to sessions that have the tags."""
    marks = ", ".join(["(?, ?)"] * len(page))
    sql = f"""SELECT {_ROW} FROM (VALUES {marks}) AS p
        CROSS JOIN calls AS c ON c.session = p.column1 AND c.request = p.column2
        CROSS JOIN sessions AS s ON s.number = c.session
        CROSS JOIN call_kinds AS k ON k.kind = c.kind"""
    parameters = [number for _, session, request in page for number in (session, request)]
    rows = convert_rows(connection.execute(sql, parameters).fetchall(), list[CallRow], "calls")
    by_key = {(row.number, row.request): row for row in rows}
    all_tags = session_tags.tags_of(connection, rows)
    needed = {storable(name): storable(value) for name, value in tags.items()}.items()
    return [
        FoundCall(row, all_tags[row.number], cursor)
        for cursor in page
        if (row := by_key.get(cursor[1:])) is not None and needed <= all_tags[row.number].items()
    ]
