"""Writes statements: single-event streams in which any process says something about a session.

A session's own stream has one writer, its Recorder. What others say of it later (tags, that it was
interrupted), definitions of agents and gaps are streams of their own, so nobody meets a conflict.
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
        log: What it is appended to.
        stream: The name of the stream.
        event: The event.
        salt: Of the stream, as it stands in the event.
        redact: What the user has cut.

    Returns:
        Whether it was new; False where the stream was there already, written by another.

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
        stream: The name of the stream.
        event: The event.
        salt: Of the stream, as it stands in the event.
        redact: What the user has cut.
    """
    data = payload(event, redact)
    return seal(salt, stream, 1, time.time_ns(), event.type, event.version, data)
