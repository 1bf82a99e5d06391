"""Searches the messages of a store, and returns each hit with a part of its text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.dataframe_rows import TableRow
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.reads_of_parts import read_positions
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.search import (
    MOST_EXAMINED,
    MOST_SCORED,
    FoundMessage,
    FoundMessages,
    SearchFilter,
    search_messages,
)
from lllm.projections.queries.search_query import Phrase, parse_query
from lllm.projections.queries.sessions import family, find_session, reading
from lllm.projections.views.message_texts import ROLES, MessageText, Role, texts_of
from lllm.projections.views.messages import position_of
from lllm.search.snippets import Snippet, snippet_of
from lllm.times import datetime_of

SearchSort = Literal["newest", "relevance"]
SEARCH_SORTS: tuple[SearchSort, ...] = get_args(SearchSort)
_UNREADABLE = "(the event can't be read; `lllm verify` says why)"


class SearchHit(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """A message that a search found.

    Attributes:
        session_id: The id of the session with the message; for an error outside of any session, the
            id that `save_error` returned.
        message: The number of the message in the session; None for a task, tag, error or
            annotation.
        position: The position of its event in the log.
        role: "system", "user", "assistant" or "tool" for a message; "task" or "tag" of a session;
            "error"; "note" for an annotation.
        timestamp: The time at which it was recorded, UTC.
        tactic_path: The stable path of the session; None outside of any session.
        tags: The tags of the session, and of its root session.
        snippet: The parts of the text around the words that were found, on one line.
        matches: The places of these words in `snippet`, as pairs (start, end).
        score: How well the message matches; larger is better. None if hits are sorted by time.
    """

    session_id: str
    message: int | None
    position: int
    role: Role
    timestamp: dt.datetime
    tactic_path: str | None
    tags: dict[str, str]
    snippet: str
    matches: tuple[tuple[int, int], ...]
    score: float | None


class SearchHits(list[SearchHit]):
    """The hits of a search, and how many messages were examined.

    Attributes:
        examined: The number of messages with these words that were examined.
        note: What the search left out because there was too much; None if nothing was left out.
        cursor: Pass it to `search` to get the hits after these; None if there are no more, or if
            hits are sorted by relevance.
    """

    def __init__(
        self,
        hits: Iterable[SearchHit] = (),
        *,
        examined: int = 0,
        note: str | None = None,
        cursor: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.examined = examined
        self.note = note
        self.cursor = cursor


def search_of(
    log: LogBackend,
    query: str,
    of: Filter,
    role: str | Collection[str] | None,
    session_id: str | None,
    limit: int | None,
    sort: str,
    cursor: str | None,
) -> Callable[[RowsDatabase], SearchHits]:
    """Check the arguments of a search before anything is read; see `LogStore.search`.

    Args:
        log: The log from which the texts are read.
        query: The words to look for, in the search syntax.
        of: The filter of the sessions, and the time range of the messages.
        role: The role of the messages, or several roles; None for all.
        session_id: Only messages of this session and its descendants; None for all.
        limit: The greatest number of hits; None for all.
        sort: The order of the hits: "newest" or "relevance".
        cursor: The cursor of the page before; None for the first page.

    Returns:
        A function that searches the database of rows, which must be up to date.

    Raises:
        SearchQueryError: The query has a syntax error.
        ValueError: A role, the order, the limit or the cursor is invalid.
    """
    parsed = parse_query(query)
    phrases = tuple(parsed.phrases())
    if sort not in SEARCH_SORTS:
        raise ValueError(f"sort is one of {', '.join(SEARCH_SORTS)}; not {sort!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is 0 or more, or None for all; not {limit}")
    wanted = SearchFilter(of, _roles(role), None, _behind(cursor, sort))

    def ask(database: RowsDatabase) -> SearchHits:
        with reading(database) as connection:
            narrowed = wanted
            if session_id is not None:
                row = find_session(connection, session_id)
                numbers = () if row is None else family(connection, row)
                sessions = frozenset(one.number for one in numbers)
                narrowed = msgspec.structs.replace(wanted, sessions=sessions)
            found = search_messages(
                connection, parsed, narrowed, limit, by_relevance=sort == "relevance"
            )
        events = _events_of(log, found.messages)
        hits = (_hit(events, one, found, phrases) for one in found.messages)
        cursor = None if found.behind is None else str(found.behind)
        return SearchHits(
            filter(None, hits), examined=found.examined, note=_note(found, sort), cursor=cursor
        )

    return ask


def _roles(role: str | Collection[str] | None) -> frozenset[str] | None:
    if role is None:
        return None
    roles = frozenset([role] if isinstance(role, str) else role)
    for one in sorted(roles - {*ROLES}):
        raise ValueError(f"role is one of {', '.join(ROLES)}; not {one!r}")
    return roles


def _behind(cursor: str | None, sort: str) -> int | None:
    if cursor is None:
        return None
    if sort == "relevance":
        raise ValueError("hits by relevance have no pages: leave cursor out, or use sort='newest'")
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 20):
        raise ValueError(
            f"{cursor!r} is not a cursor of a search; take one from `cursor` of its hits"
        )
    return min(int(cursor), 2**63 - 1)


def _note(found: FoundMessages, sort: str) -> str | None:
    if not found.bounded:
        return None
    if sort == "relevance":
        return (
            f"The best of the newest {MOST_SCORED:,} messages with these words; there are more, "
            "which were not looked at."
        )
    return (
        f"The newest {MOST_EXAMINED:,} messages with these words were looked at; there are more, "
        "use the cursor to continue."
    )


def _hit(
    events: Mapping[int, Recorded],
    found: FoundMessage,
    answer: FoundMessages,
    phrases: Sequence[Phrase],
) -> SearchHit | None:
    """Make a hit; None if the text was erased meanwhile."""
    position, number = position_of(found.id)
    event = events.get(position)
    said: MessageText | None = None
    if event is not None:
        texts = texts_of(codec.decode(event))
        if len(texts) <= number or not texts[number].text:
            return None
        said = texts[number]
    snippet = snippet_of(said.text, phrases) if said else Snippet(_UNREADABLE, ())
    stream = "" if event is None else event.stream
    return SearchHit(
        session_id=found.session_id or stream,
        message=None if said is None else said.message,
        position=position,
        role=ROLES[found.role] if 0 <= found.role < len(ROLES) else "other",
        timestamp=datetime_of(found.time * 1_000),
        tactic_path=found.tactic,
        tags={} if found.session is None else answer.tags.get(found.session, {}),
        snippet=snippet.text,
        matches=snippet.matches,
        score=None if found.score is None else -found.score,
    )


def _events_of(log: LogBackend, found: Sequence[FoundMessage]) -> Mapping[int, Recorded]:
    """Read the events of messages, by their positions; those that can't be read are left out."""
    positions = [position_of(one.id)[0] for one in found]
    try:
        return {event.position: event for event in read_positions(log, positions)}
    except LogDamaged:
        return {at: event for at in positions if (event := _event_at(log, at)) is not None}


def _event_at(log: LogBackend, position: int) -> Recorded | None:
    """Read the event at a position; None if it can't be read."""
    try:
        return next(iter(log.read(after=position - 1, upto=position)), None)
    except LogDamaged:
        return None
