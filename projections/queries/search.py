"""Finds messages by their words, in the search index of a store.

The index returns matches newest first, some at a time. They are checked against the filters until
there are enough. One call examines a limited number of matches, so that no query reads a whole
large log for a filter that nothing fits; the result says how many were examined.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.errors import SearchUnavailable
from lllm.projections.database import RowsConnection
from lllm.projections.queries.facet_numbers import tag_number
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.search_query import Query
from lllm.projections.queries.session_tags import tags_of
from lllm.projections.queries.tsvector_matches import matches
from lllm.projections.table_names import search_table
from lllm.projections.view import storable
from lllm.projections.views.message_texts import ROLES
from lllm.projections.views.messages import MESSAGES, MessagesView

MOST_SCORED = 20_000  # matches whose relevance is computed
MOST_EXAMINED = 200_000  # matches that one call holds against its filters
_FIRST, _LARGEST = 200, 20_000  # matches that are read at once

# How long after its session began a message was said, in microseconds; outside of any, since 1970.
_TIME = "m.delay + coalesce(s.started, 0) / 1000"
_ROW = f"f.id, m.session, m.role, {_TIME}, f.score, s.id, s.root, s.tactic, s.state, s.partition"


class SearchFilter(msgspec.Struct, frozen=True):
    """Selects messages that meet every given condition; None leaves a condition out.

    Attributes:
        of: The tags, state, tactic and partition of the message's session; its `after` and `before`
            apply to the times of messages. Replays are included only if its `replays` is true.
        roles: The roles of the messages; None for all.
        sessions: The numbers of the sessions to search; None for all.
        behind: Only messages with smaller ids than this one, the last on the previous page.
    """

    of: Filter = Filter()
    roles: Collection[str] | None = None
    sessions: Collection[int] | None = None
    behind: int | None = None


@warm_msgspec
class FoundMessage(NamedTuple):
    """A message that a query found.

    Attributes:
        id: The id of the message's row; see `position_of`.
        session: The number of its session; None if it is in no session.
        role: The index of its role in ROLES.
        time: The time of the message, microseconds UTC.
        score: How well it matches; smaller is better. None if the order is by time.
        session_id: The id of its session.
        root: The number of the root session.
        tactic: The path of the session's tactic.
        state: The state of the session.
        partition: The partition of the session.
        replays: The id of the session that its session replays; None if it is not a replay.
    """

    id: int
    session: int | None
    role: int
    time: int
    score: float | None
    session_id: str | None
    root: int | None
    tactic: str | None
    state: str | None
    partition: str | None
    replays: str | None


class FoundMessages(NamedTuple):
    """The answer to a search.

    Attributes:
        messages: The messages, newest first or best first.
        tags: The tags of each of their sessions, by the number of the session.
        examined: The number of matches that were examined.
        bounded: True if the search stopped at the limit of matches, and older ones were not
            examined.
        behind: The `behind` with which the next search continues; None if there are no more
            matches.
    """

    messages: list[FoundMessage]
    tags: dict[int, dict[str, str]]
    examined: int
    bounded: bool
    behind: int | None


def no_full_text_search() -> SearchUnavailable:
    """Make the error for a Python whose SQLite lacks FTS5.

    Returns:
        The error, to be raised by the caller.
    """
    return SearchUnavailable(
        f"The SQLite {sqlite3.sqlite_version} of this Python was built without full-text search "
        "(FTS5), so nothing can be searched; use a Python with another one."
    )


def search_messages(
    connection: RowsConnection,
    query: Query,
    wanted: SearchFilter,
    limit: int | None,
    *,
    by_relevance: bool,
) -> FoundMessages:
    """Find messages by their words.

    Args:
        connection: A connection on which all rows are read in one state.
        query: The query, from `parse_query`.
        wanted: The filter of the messages.
        limit: The greatest number of messages; None for all.
        by_relevance: True for the best first, among the newest MOST_SCORED matches; False for the
            newest first.

    Returns:
        The messages and how far the search went.

    Raises:
        SearchUnavailable: The store has no search index.
        ViewError: A row is not as lllm writes it.
    """
    index = search_table(MESSAGES.name, _generation(connection))
    matches = _Matches(connection, index, query, wanted, scored=by_relevance)
    found: list[FoundMessage] = []
    for some in matches.pages(MOST_SCORED if by_relevance else MOST_EXAMINED):
        found += some
        if not by_relevance and limit is not None and len(found) > limit:
            break
    if by_relevance:
        found.sort(key=lambda one: (one.score or 0.0, -one.id))
    page = found if limit is None else found[:limit]
    bounded = not matches.complete and len(page) == len(found)
    behind = None
    if not by_relevance:
        behind = matches.behind if bounded else page[-1].id if len(page) < len(found) else None
    if by_relevance:
        bounded = not matches.complete
    return FoundMessages(page, _tags(connection, page), matches.examined, bounded, behind)


def _generation(connection: RowsConnection) -> int:
    row = connection.execute(
        "SELECT generation, version FROM checkpoints WHERE view = ?", (MessagesView.name,)
    ).fetchone()
    if row is None:
        raise SearchUnavailable(
            "This store has no search index; `lllm rebuild --search on`, or "
            "LogStore.rebuild(search=True), makes one."
        )
    if row[1] != MessagesView.version:
        raise SearchUnavailable(
            "Another version of lllm made the search index of this store; `lllm rebuild --search "
            "on`, or LogStore.rebuild(search=True), makes it anew."
        )
    return int(row[0])


class _Matches:
    """The matches of a query that a filter selects, newest first.

    examined: the number of matches read so far. behind: the id of the last of these. complete: True
    if there are no more.
    """

    def __init__(
        self,
        connection: RowsConnection,
        index: str,
        query: Query,
        wanted: SearchFilter,
        *,
        scored: bool,
    ) -> None:
        of = wanted.of
        self.examined = 0
        # A tag that no session ever had is found by nobody, however many messages there are.
        self.complete = not all(tag_number(connection, *tag).facet for tag in of.tags.items())
        self._connection = connection
        self._wanted = wanted
        self._tags = {storable(name): storable(value) for name, value in of.tags.items()}
        self._tactic = None if of.tactic is None else storable(of.tactic)
        self._partition = None if of.partition is None else storable(of.partition)
        # A session's messages come after its first event.
        self._first = -1 if wanted.sessions is None else 2 * min(wanted.sessions, default=2**61)
        self.behind = 2**63 - 1 if wanted.behind is None else wanted.behind
        if connection.engine == "postgres":
            found, self._parameters = matches(connection, index, query, scored=scored)
        else:
            score = "rank" if scored else "NULL"
            found = (
                f"SELECT rowid AS id, {score} AS score FROM {index} WHERE {index} MATCH ?"
                " AND rowid >= ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
            )
            self._parameters = (query.expression,)
        self._sql = f"""SELECT {_ROW}, s.replays FROM ({found}) AS f
            CROSS JOIN {MESSAGES.name} AS m ON m.id = f.id
            LEFT JOIN sessions AS s ON s.number = m.session ORDER BY f.id DESC"""
        self._scored = scored

    def pages(self, most: int) -> Iterator[list[FoundMessage]]:
        """Read at most `most` matches, some at a time."""
        size = most if self._scored else _FIRST
        while self.examined < most and not self.complete:
            size = min(size, most - self.examined)
            parameters = (*self._parameters, self._first, self.behind, size)
            rows = self._connection.execute(self._sql, parameters).fetchall()
            some = convert_rows(rows, list[FoundMessage], MESSAGES.name)
            self.examined += len(some)
            self.complete = len(some) < size
            if some:
                self.behind = some[-1].id
            yield self._fitting(some)
            size = min(size * 4, _LARGEST)

    def _fitting(self, some: list[FoundMessage]) -> list[FoundMessage]:
        of, roles = self._wanted.of, self._wanted.roles
        sessions = self._wanted.sessions
        fitting = [
            one
            for one in some
            if (of.replays or one.replays is None)
            and (roles is None or (one.role < len(ROLES) and ROLES[one.role] in roles))
            and (of.after is None or one.time * 1000 >= of.after)
            and (of.before is None or one.time * 1000 < of.before)
            and (of.state is None or one.state == of.state)
            and (of.tactic is None or one.tactic == self._tactic)
            and (of.partition is None or one.partition == self._partition)
            and (sessions is None or one.session in sessions)
        ]
        if not of.tags or not fitting:
            return fitting
        tags = _tags(self._connection, fitting)
        return [
            one
            for one in fitting
            if one.session is not None and self._tags.items() <= tags.get(one.session, {}).items()
        ]


class _Family(NamedTuple):
    number: int
    root: int


def _tags(
    connection: RowsConnection, messages: Sequence[FoundMessage]
) -> dict[int, dict[str, str]]:
    sessions = {
        one.session: _Family(one.session, one.root)
        for one in messages
        if one.session is not None and one.root is not None
    }
    return tags_of(connection, list(sessions.values()))
