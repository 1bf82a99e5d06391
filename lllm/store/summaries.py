"""The records of sessions that a store returns: short ones for lists, and full ones."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import get_args

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.model import State
from lllm.events.values.json_values import from_plain
from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.queries import session_lists, session_tags
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.cursor_sql import SortedCursor, StartCursor
from lllm.projections.queries.filters import Filter, SessionSort
from lllm.projections.queries.session_annotations import annotations_of
from lllm.projections.queries.sessions import SessionRow
from lllm.projections.session.annotations import Annotation
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.session.invoke_cost import dollars
from lllm.store.erasure_report import archived_text, erased_text
from lllm.times import datetime_of

Sort = SessionSort
SORTS: tuple[Sort, ...] = get_args(SessionSort)
_OF_TEXTS = ("state", "tactic", "task")  # sorted from A to Z, all others from the largest
_LAST = 2**63 - 1  # the largest number of nanoseconds in 8 bytes


class SessionSummary(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """A session in a list: the facts that are known without loading it.

    Attributes:
        session_id: The whole id.
        tactic_name: The short name.
        tactic_path: The stable path.
        state: "success", "failure", "running" or "interrupted".
        task: The first line, within the first 200 characters, of the task; without a task, of the
            first user message.
        timestamp: The time at which the session began, UTC.
        elapsed: Seconds from begin to end; None while the session runs.
        total_cost: US dollars, of this session and its child sessions.
        wasted_cost: The part of the cost, in US dollars, for answers that were not used.
        unpriced_calls: The number of calls that the cost leaves out because their price is unknown.
        calls: The number of attempts to call a model, in this session and its child sessions.
        failed_calls: The number of those attempts that failed.
        agent_call_count: The number of agent calls in this session, without child sessions.
        prompt_tokens: Input tokens, of this session and its child sessions.
        completion_tokens: Output tokens, of this session and its child sessions.
        tags: The current tags of the session.
        partition: The owner of the session.
        error: "Type: message" of a failed session.
        replays: The id of the session that this one replays; None if it is no replay.
        forks: The id of the session that this one is a fork of; None if it is no fork.
        erased: "erased on ... by ... because: ..." if the content was erased; None for most.
        archived: "archived on ... to FILE" if the events left the store for an archive file; None
            for most.
        cursor: Pass it to `list_sessions` with the same `sort` to get the sessions after this one.
    """

    session_id: str
    tactic_name: str
    tactic_path: str
    state: State
    task: str | None
    timestamp: dt.datetime
    elapsed: float | None
    total_cost: float
    wasted_cost: float
    unpriced_calls: int
    calls: int
    failed_calls: int
    agent_call_count: int
    prompt_tokens: int
    completion_tokens: int
    tags: dict[str, str]
    partition: str
    error: str | None
    replays: str | None
    forks: str | None
    erased: str | None
    archived: str | None
    cursor: str

    def _repr_html_(self) -> str:
        from lllm.store.notebook_table import sessions_table

        return sessions_table([self])


class SessionList(list[SessionSummary]):
    """A list of sessions, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        from lllm.store.notebook_table import sessions_table

        return sessions_table(self)


class SessionRecord(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """A loaded session, with the facts that the store has about it.

    Attributes:
        session_id: The whole id.
        session: The session with its calls and child sessions.
        task: The complete task.
        tags: The tags of the session, as of the time that it was loaded for.
        metadata: The metadata that was given when the session was made.
        timestamp: The time at which the session began, UTC.
        traceback: The traceback of a failed session, else None.
        annotations: The annotations of the session and its attempts, as of that time.
    """

    session_id: str
    session: TacticCallSession
    task: object
    tags: dict[str, str]
    metadata: object
    timestamp: dt.datetime
    traceback: str | None
    annotations: list[Annotation] = []

    def _repr_html_(self) -> str:
        from lllm.projections.session.notebook_html import session_html

        return session_html(self.session, self.tags, self.annotations)

    def show(self) -> None:
        """Show the session: in a notebook as HTML, else on stdout as text."""
        from lllm.projections.session import notebook_html

        notebook_html.show(self.session, self._repr_html_())


def summary_of(row: SessionRow, tags: dict[str, str], sort: Sort) -> SessionSummary:
    """Make the SessionSummary of a session from its row.

    Args:
        row: The row.
        tags: The tags of the session.
        sort: The order of the list; the cursor of the summary is valid for it.

    Returns:
        The summary.
    """
    cost = row.cost_nanos or 0
    error = f"{row.error_type}: {row.error_message}" if row.error_type else None
    return SessionSummary(
        session_id=row.id,
        tactic_name=row.name,
        tactic_path=row.tactic,
        state=row.state,
        task=row.task,
        timestamp=datetime_of(row.started),
        elapsed=None if row.elapsed is None else row.elapsed / 1_000_000_000,
        total_cost=dollars(cost),
        wasted_cost=dollars(row.wasted_nanos or 0),
        unpriced_calls=row.unpriced_calls or 0,
        calls=row.calls or 0,
        failed_calls=row.failed_calls or 0,
        agent_call_count=row.agent_calls or 0,
        prompt_tokens=row.input_tokens or 0,
        completion_tokens=row.output_tokens or 0,
        tags=tags,
        partition=row.partition,
        error=error,
        replays=row.replays,
        forks=row.forks,
        erased=erased_text(row),
        archived=archived_text(row) if row.erased is None else None,
        cursor=_cursor_text(row, sort),
    )


def session_list(
    wanted: Filter, sort: Sort, limit: int | None, cursor: str | None, reverse: bool = False
) -> Callable[[RowsDatabase], SessionList]:
    """Check the arguments of a list of sessions before anything is read.

    Args:
        wanted: The filter of the sessions.
        sort: The order of the list.
        limit: The greatest number of summaries; None for all.
        cursor: The cursor of the last summary of the page before; None for the first page.
        reverse: True for the opposite of the order that `sort` names.

    Returns:
        A function that reads the list from the database of rows.

    Raises:
        ValueError: The order, the limit or the cursor is invalid.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number of sessions, not {limit}")
    if sort not in SORTS:
        raise ValueError(f"sort is one of {', '.join(SORTS)}; not {sort!r}")
    find: Callable[[RowsConnection, Filter], list[SessionRow]]
    if sort == "started":
        start = None if cursor is None else _start_cursor(cursor)
        find = partial(session_lists.list_sessions, limit=limit, cursor=start, oldest_first=reverse)
    else:
        behind = None if cursor is None else _sorted_cursor(cursor, sort)
        falling = reverse == (sort in _OF_TEXTS)
        find = partial(
            session_lists.sorted_sessions, limit=limit, cursor=behind, by=sort, falling=falling
        )

    def read(database: RowsDatabase) -> SessionList:
        with session_queries.reading(database) as connection:
            rows = find(connection, wanted)
            all_tags = session_tags.tags_of(connection, rows)
        return SessionList(summary_of(row, all_tags[row.number], sort) for row in rows)

    return read


def annotations_by_session(
    session_ids: Collection[str],
) -> Callable[[RowsDatabase], dict[str, list[Annotation]]]:
    """Make the query for the annotations of some sessions; see `LogStore.annotations`.

    Args:
        session_ids: The whole ids.

    Returns:
        A function that reads them from the database of rows.
    """

    def read(database: RowsDatabase) -> dict[str, list[Annotation]]:
        found: dict[str, list[Annotation]] = {}
        with session_queries.reading(database) as connection:
            numbers = session_queries.numbers_of(connection, session_ids)
            for row in annotations_of(connection, numbers):
                found.setdefault(numbers[row.session], []).append(
                    Annotation(
                        name=row.name,
                        value=from_plain(msgspec.json.decode(row.value)),
                        comment=row.comment,
                        by=row.said_by or None,
                        step=row.step or None,
                        timestamp=datetime_of(row.time),
                    )
                )
        return found

    return read


class ChildSessions(msgspec.Struct, frozen=True):
    """The sessions that a session called directly.

    Attributes:
        count: How many there are.
        first: The first of them, in the order of their starts.
    """

    count: int
    first: list[SessionSummary]


def children_list(
    session_ids: Collection[str], limit: int | None
) -> Callable[[RowsDatabase], dict[str, ChildSessions]]:
    """Make the query for the children of some sessions; see `LogStore.children`.

    Args:
        session_ids: The whole ids.
        limit: The greatest number of children of each; None for all.

    Returns:
        A function that reads them from the database of rows.

    Raises:
        ValueError: The limit is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number of sessions, not {limit}")

    def read(database: RowsDatabase) -> dict[str, ChildSessions]:
        found: dict[str, ChildSessions] = {}
        with session_queries.reading(database) as connection:
            for session_id in session_ids:
                count, rows = session_queries.children_of(connection, session_id, limit)
                if count:
                    tags = session_tags.tags_of(connection, rows)
                    first = [summary_of(row, tags[row.number], "started") for row in rows]
                    found[session_id] = ChildSessions(count, first)
        return found

    return read


def _start_cursor(text: str) -> StartCursor:
    started, _, session_id = text.partition(".")
    if not re.fullmatch(r"-?[0-9]{1,19}", started) or not session_id or abs(int(started)) > _LAST:
        raise _no_cursor(text, "started")
    return int(started), session_id


def _sorted_cursor(text: str, sort: Sort) -> SortedCursor:
    found = re.fullmatch(r"([a-z]+)\.(.*)\.([0-9]{1,19})", text, re.DOTALL | re.ASCII)
    if found is None or found[1] != sort or int(found[3]) > _LAST:
        raise _no_cursor(text, sort)
    value, number = found[2], int(found[3])
    if sort in _OF_TEXTS:
        return value, number
    if not re.fullmatch(r"-?[0-9]{1,19}", value) or abs(int(value)) > _LAST:
        raise _no_cursor(text, sort)
    return int(value), number


def _cursor_text(row: SessionRow, sort: Sort) -> str:
    if sort == "started":
        return f"{row.started}.{row.id}"
    return f"{sort}.{session_lists.sort_value(row, sort)}.{row.number}"


def _no_cursor(text: str, sort: Sort) -> ValueError:
    return ValueError(
        f"{text!r} is not a cursor of a list by {sort}; take one from the `cursor` of a summary."
    )
