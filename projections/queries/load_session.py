"""Loads the events of a session: its own, those of sessions below it, and agent definitions.

A row knows its session's first and last position, so that range is read and no more. Every digest
is checked on the way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Sequence
from functools import partial
from operator import attrgetter

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend, read_types
from lllm.events.backends.sqlite.database import Database
from lllm.events.digest import check_digest
from lllm.events.envelope import Recorded
from lllm.events.integrity.session_root import check_root
from lllm.events.model import AgentStarted, LLMRequested, LogGap, SessionEdited
from lllm.projections.queries import session_tags
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.sessions import SessionRow


class FoundSession(msgspec.Struct, frozen=True):
    """The place of a session in the log.

    Attributes:
        row: The session's own row.
        family: The rows of it and of those below it that are meant.
        tags: Its tags, those of its root included.
        statements: What was said of the family later: positions and streams.
    """

    row: SessionRow
    family: list[SessionRow]
    tags: dict[str, str]
    statements: list[tuple[int, str]]


def find(database: Database, session_id: str, *, below: bool = True) -> FoundSession | None:
    """Find the place of a session in the log.

    Args:
        database: Reads the rows.
        session_id: The whole id.
        below: True if the sessions below it are meant, too.

    Returns:
        None where the rows don't know it.

    Raises:
        ViewError: Somebody else wrote a row.
    """
    with session_queries.reading(database) as connection:
        row = session_queries.find_session(connection, session_id)
        if row is None:
            return None
        family = session_queries.family(connection, row) if below else [row]
        tags = session_tags.tags_of(connection, [row])[row.number]
        return FoundSession(row, family, tags, _statements_about(connection, family))


def _statements_about(
    connection: sqlite3.Connection, rows: Sequence[SessionRow]
) -> list[tuple[int, str]]:
    """Find statements about sessions, such as later tags, in order."""
    found: list[tuple[int, str]] = []
    for row in rows:
        found += connection.execute(
            "SELECT position, stream FROM statements WHERE session = ?", (row.number,)
        )
    return sorted(convert_rows(found, list[tuple[int, str]], "statements"))


def read_sessions(log: LogBackend, found: FoundSession) -> list[Recorded]:
    """Read the events of the given sessions, and later statements about them.

    Args:
        log: The log.
        found: Where they stand.

    Returns:
        The events in the order of the log.

    Raises:
        LogDamaged: One is not what was written.
    """
    ranges = [(row.id, row.number, row.last_position) for row in found.family]
    ranges += [(stream, position, position) for position, stream in found.statements]
    events: list[Recorded] = []
    for stream, first, last in ranges:
        events += _verified(log.read(after=first - 1, upto=last, stream=stream))
    events.sort(key=attrgetter("position"))
    return events


def read_definitions(
    log: LogBackend, database: Database, events: Sequence[Recorded]
) -> list[Recorded]:
    """Read the agent definitions that events refer to.

    Args:
        log: The log.
        database: Reads the rows, which know where they stand.
        events: Of any sessions.

    Returns:
        The definitions in the order of the log; one that the log does not have is left out.

    Raises:
        LogDamaged: One is not what was written.
        ViewError: Somebody else wrote a row.
    """
    edited = {event.stream for event in events if event.type == SessionEdited.type}
    streams = {
        payload.definition
        for payload in map(codec.decode, filter(partial(_may_refer, edited), events))
        if isinstance(payload, AgentStarted | LLMRequested) and payload.definition is not None
    }
    definitions: list[Recorded] = []
    with session_queries.reading(database) as connection:
        places = {
            stream: session_queries.definition_position(connection, stream) for stream in streams
        }
    for stream, position in places.items():
        if position is not None:
            definitions += _verified(log.read(after=position - 1, upto=position, stream=stream))
    return sorted(definitions, key=lambda event: event.position)


def _may_refer(edited: Container[str], event: Recorded) -> bool:
    """Tell whether an event may refer to a definition that no other one refers to.

    What an agent asks refers to the definition that its call began with, but in a fork that was
    edited.
    """
    if event.type == AgentStarted.type:
        return True
    return (
        event.type == LLMRequested.type
        and b'"definition":"' in event.data
        and (event.stream in edited or b'"call":null' in event.data or b'"call":' not in event.data)
    )


def read_gaps(log: LogBackend, events: Sequence[Recorded]) -> list[Recorded]:
    """Find the log's notes about events of sessions that could not be written.

    Args:
        log: The log.
        events: Of some sessions, in the order of the log.

    Returns:
        The `log.gap` events before the last of them; none where no event is missing.
    """
    last: dict[str, int] = {}
    for event in events:
        if event.seq != last.get(event.stream, 0) + 1:
            gaps = read_types(log, [LogGap.type], upto=events[-1].position)
            return [gap for one in gaps for gap in _verified([one])]
        last[event.stream] = event.seq
    return []


def _verified(events: Iterable[Recorded]) -> list[Recorded]:
    """Check events of one stream, the first of which is the stream's first."""
    found = list(events)
    if found:
        salt = codec.salt_of(found[0])
        for event in found:
            check_digest(event, salt)
        check_root(found)
    return found
