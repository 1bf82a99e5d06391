"""The events of a session, found by its row: its own, those below it, and what they refer to.

A row knows its session's first and last position, so that range is read and no more. Every digest
is checked on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.backends.sqlite.database import Database
from lllm.events.envelope import Recorded, check_digest
from lllm.events.model import AgentStarted
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.sessions import SessionRow


class FoundSession(msgspec.Struct, frozen=True):
    """A session's row, the rows of it and of all below it, and its tags."""

    row: SessionRow
    family: list[SessionRow]
    tags: dict[str, str]
    statements: list[tuple[int, str]]


def find(database: Database, session_id: str, *, below: bool = True) -> FoundSession | None:
    """What the rows say of a session; None where they don't know it.

    below: whether the sessions below it are meant too.
    """
    with session_queries.reading(database) as connection:
        row = session_queries.find_session(connection, session_id)
        if row is None:
            return None
        family = session_queries.family(connection, row) if below else [row]
        tags = session_queries.tags_of(connection, [row])[row.number]
        return FoundSession(row, family, tags, session_queries.statements_about(connection, family))


def read_sessions(log: LogBackend, found: FoundSession) -> list[Recorded]:
    """The events of the sessions found and the statements about them, in the order of the log.

    Raises LogDamaged where one is not what was written.
    """
    ranges = [(row.id, row.number, row.last_position) for row in found.family]
    ranges += [(stream, position, position) for position, stream in found.statements]
    events: list[Recorded] = []
    for stream, first, last in ranges:
        events += _checked(log.read(after=first - 1, upto=last, stream=stream))
    events.sort(key=attrgetter("position"))
    return events


def read_definitions(
    log: LogBackend, database: Database, events: Sequence[Recorded]
) -> list[Recorded]:
    """The agent definitions that some events refer to, in the order of the log."""
    payloads = [codec.decode(event) for event in events if event.type == AgentStarted.type]
    streams = {payload.definition for payload in payloads if isinstance(payload, AgentStarted)}
    definitions: list[Recorded] = []
    with session_queries.reading(database) as connection:
        places = {
            stream: session_queries.definition_position(connection, stream) for stream in streams
        }
    for stream, position in places.items():
        if position is not None:
            definitions += _checked(log.read(after=position - 1, upto=position, stream=stream))
    return sorted(definitions, key=lambda event: event.position)


def _checked(events: Iterable[Recorded]) -> list[Recorded]:
    """Some events of one stream, the first of it among them."""
    found = list(events)
    if found:
        salt = codec.salt_of(found[0])
        for event in found:
            check_digest(event, salt)
    return found
