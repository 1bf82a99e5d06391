"""Writes statements: streams of one event in which any process records a fact about a session.

A session's own stream has one writer, its Recorder. Later facts about it (tags, an interruption),
definitions of agents and gaps each get a stream of their own, so writers never conflict.
"""

from __future__ import annotations

import time

from lllm.events.backend import LogBackend
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.errors import AppendConflict
from lllm.events.model import Event
from lllm.events.redaction.redact import Redact, payload


def append_statement(
    log: LogBackend, stream: str, event: Event, *, salt: bytes = b"", redact: Redact | None = None
) -> bool:
    """Append a statement: a stream of one event, about a session or a definition.

    Args:
        log: The log that the statement is appended to.
        stream: The name of the statement's stream.
        event: The event of the statement.
        salt: The salt of the stream, the same as in the event.
        redact: Functions or patterns that remove parts of payloads (see `redaction.redact`); None
            to remove only known secrets.

    Returns:
        True if the statement is new; False if the stream already exists, written by another.

    Raises:
        LogError: The log can't be written.
    """
    try:
        log.append([statement(stream, event, salt=salt, redact=redact)])
    except AppendConflict:
        return False
    return True


def statement(
    stream: str, event: Event, *, salt: bytes = b"", redact: Redact | None = None
) -> NewEvent:
    """Make the event of a statement, ready to be appended.

    Args:
        stream: The name of the statement's stream.
        event: The event of the statement.
        salt: The salt of the stream, the same as in the event.
        redact: Functions or patterns that remove parts of payloads (see `redaction.redact`); None
            to remove only known secrets.

    Returns:
        The event with its digest.
    """
    data = payload(event, redact)
    return seal(salt, stream, 1, time.time_ns(), event.type, event.version, data)
