"""Loads the events of a session: its own, those of sessions below it, and agent definitions.

The row of a session has the positions of its first and last event, so only that range is read.
Every digest is checked.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from operator import attrgetter

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend, read_types
from lllm.events.digest import check_stream
from lllm.events.envelope import Recorded
from lllm.events.integrity.session_root import RootCheck, check_root
from lllm.events.model import AgentStarted, LLMRequested, LogGap, SessionEdited
from lllm.events.reads_of_parts import StreamPart, read_streams
from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.queries import session_tags
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.sessions import SessionRow

_AT_ONCE = 500  # events that are checked at once


class FoundSession(msgspec.Struct, frozen=True):
    """The place of a session in the log.

    Attributes:
        row: The row of the session.
        family: The rows of the session and of the requested sessions below it.
        tags: The tags of the session, including those inherited from its root.
        statements: The positions and streams of later statements about these sessions.
    """

    row: SessionRow
    family: list[SessionRow]
    tags: dict[str, str]
    statements: list[tuple[int, str]]


def find(database: RowsDatabase, session_id: str, *, below: bool = True) -> FoundSession | None:
    """Find the place of a session in the log.

    Args:
        database: The database of the rows.
        session_id: The complete id of the session.
        below: True to include the sessions below it.

    Returns:
        The place; None if there is no such session.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    with session_queries.reading(database) as connection:
        row = session_queries.find_session(connection, session_id)
        if row is None:
            return None
        family = session_queries.family(connection, row) if below else [row]
        tags = session_tags.tags_of(connection, [row])[row.number]
        return FoundSession(row, family, tags, _statements_about(connection, family))


def _statements_about(
    connection: RowsConnection, rows: Sequence[SessionRow]
) -> list[tuple[int, str]]:
    """Find statements about sessions, such as later tags, in order."""
    select = "SELECT position, stream FROM statements WHERE session"
    found = rows_by_key(connection, select, [row.number for row in rows])
    return sorted(convert_rows(found, list[tuple[int, str]], "statements"))


def read_sessions(log: LogBackend, found: FoundSession) -> list[Recorded]:
    """Read the events of sessions, and later statements about them.

    Args:
        log: The log to read.
        found: The place of the sessions.

    Returns:
        The events, in the order of the log.

    Raises:
        LogDamaged: An event differs from what was written.
    """
    return _read_verified(log, _parts(found))


def iterate_sessions(log: LogBackend, found: FoundSession) -> Iterator[Recorded]:
    """Read what `read_sessions` reads, without holding more than some of the events.

    Args:
        log: The log to read.
        found: The place of the sessions.

    Yields:
        The events of one session after the other, in the order of their starts, and then the
        statements about them.

    Raises:
        LogDamaged: An event differs from what was written; the events before it were yielded. That
            the root of a session differs is known after its last event.
    """
    for _, of_stream in groupby(read_streams(log, _parts(found)), key=attrgetter("stream")):
        salt: bytes | None = None
        root = RootCheck()
        while some := list(islice(of_stream, _AT_ONCE)):
            salt = codec.salt_of(some[0]) if salt is None else salt
            check_stream(some, salt)
            root.add(some)
            yield from some
        root.end()


def _parts(found: FoundSession) -> list[StreamPart]:
    parts = [StreamPart(row.id, row.number - 1, row.last_position) for row in found.family]
    return parts + [StreamPart(stream, at - 1, at) for at, stream in found.statements]


def read_definitions(
    log: LogBackend, database: RowsDatabase, events: Sequence[Recorded]
) -> list[Recorded]:
    """Read the agent definitions that events refer to.

    Args:
        log: The log to read.
        database: The database of the rows, which have the positions of the definitions.
        events: The events of one or several sessions.

    Returns:
        The definitions in the order of the log; a definition that the log does not have is left
        out.

    Raises:
        LogDamaged: An event differs from what was written.
        ViewError: A row is not as lllm writes it.
    """
    edited = {event.stream for event in events if event.type == SessionEdited.type}
    streams = {
        payload.definition
        for payload in map(codec.decode, filter(partial(_may_refer, edited), events))
        if isinstance(payload, AgentStarted | LLMRequested) and payload.definition is not None
    }
    with session_queries.reading(database) as connection:
        places = {
            stream: session_queries.definition_position(connection, stream) for stream in streams
        }
    parts = [StreamPart(stream, at - 1, at) for stream, at in places.items() if at is not None]
    return _read_verified(log, parts)


def _may_refer(edited: Container[str], event: Recorded) -> bool:
    """True if an event may refer to a definition that no other event refers to.

    The requests of an agent refer to the same definition as the start of its call, except in a fork
    with edits.
    """
    if event.type == AgentStarted.type:
        return True
    return (
        event.type == LLMRequested.type
        and b'"definition":"' in event.data
        and (event.stream in edited or b'"call":null' in event.data or b'"call":' not in event.data)
    )


def read_gaps(log: LogBackend, events: Sequence[Recorded]) -> list[Recorded]:
    """Find the `log.gap` events that explain missing events of sessions.

    Args:
        log: The log to read.
        events: The events of some sessions, in the order of the log.

    Returns:
        The `log.gap` events before the last of them; empty if no event is missing.
    """
    last: dict[str, int] = {}
    for event in events:
        if event.seq != last.get(event.stream, 0) + 1:
            gaps = read_types(log, [LogGap.type], upto=events[-1].position)
            return [gap for one in gaps for gap in _verified([one])]
        last[event.stream] = event.seq
    return []


def _read_verified(log: LogBackend, parts: Sequence[StreamPart]) -> list[Recorded]:
    """Read parts of different streams, and check them; in the order of the log."""
    events: list[Recorded] = []
    for _, of_stream in groupby(read_streams(log, parts), key=attrgetter("stream")):
        events += _verified(of_stream)
    events.sort(key=attrgetter("position"))
    return events


def _verified(events: Iterable[Recorded]) -> list[Recorded]:
    """Check the events of one stream, from its first event on."""
    found = list(events)
    if found:
        check_stream(found, codec.salt_of(found[0]))
        check_root(found)
    return found
