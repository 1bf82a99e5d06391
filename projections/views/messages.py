"""The view of messages: an index for searches of the words of all messages.

A row has the place of a text in the log; a search reads the text from there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from lllm.events.codec import decode
from lllm.events.errors import ViewError
from lllm.events.model import SessionResidue
from lllm.projections.view import ARCHIVED, ERASED, Rows, Table, ViewEvent, storable
from lllm.projections.views.message_texts import ROLES, texts_of

_logger = logging.getLogger("lllm.store")

MESSAGES = Table(
    "messages",
    {"id": "INTEGER", "session": "INTEGER", "role": "INTEGER", "delay": "INTEGER"},
    key=("id",),
    about=(
        "The texts that can be searched. id is twice the position of the text's event in the log, "
        "plus one for the tags of a starting session. session is the number of its session, delay "
        "the microseconds since its start (outside of sessions: since 1970), role the index, from "
        f"0: {', '.join(ROLES)}."
    ),
    search="text",
)


class MessagesView:
    """One row for each text that users can search, and its words in the index."""

    name = "messages"
    version = 1
    tables: Sequence[Table] = (MESSAGES,)
    types: Collection[str] = (
        "session.started",
        "session.failed",
        "session.tagged",
        "session.annotated",
        ERASED,
        ARCHIVED,
        "message.added",
        "llm.responded",
        "llm.failed",
        "tool.returned",
        "tool.failed",
        "error.recorded",
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Add the texts of some events to the index; see `View.apply`."""
        for one in batch:
            payload, session, event = one.payload, one.session, one.event
            if isinstance(payload, SessionResidue):
                for stream in () if one.is_residue else (payload.about, *payload.streams):
                    _forget(rows, stream)
                continue
            number, started = (None, 0) if session is None else (session.number, session.started)
            delay = delay_of(event.time, started)
            for place, found in enumerate(texts_of(payload)):
                if found.left_out:
                    _logger.warning(
                        "A text of the event at position %s is long: a search finds words of its "
                        "first %s characters, and not of the %s after them.",
                        event.position, len(found.text), found.left_out,
                    )  # fmt: skip
                if found.text:
                    rows.put(
                        "messages",
                        (2 * event.position + place,),
                        session=number,
                        role=_NUMBERS[found.role],
                        delay=delay,
                        text=storable(found.text),
                    )


_NUMBERS = {role: number for number, role in enumerate(ROLES)}


def delay_of(time: int, started: int) -> int:
    """Compute the time of a message as a delay from the start of its session.

    A row with the delay is smaller than a row with the time.

    Args:
        time: The time of the message, nanoseconds UTC.
        started: The start of the session, nanoseconds UTC; 0 outside of sessions.

    Returns:
        The delay in microseconds; negative if a clock was set back.
    """
    return time // 1_000 - started // 1_000


def _forget(rows: Rows, stream: str) -> None:
    """Remove the words of a stream from the index, while the log still has the texts."""
    for event in rows.events(stream):
        texts = texts_of(decode(event))
        for place in range(2):
            key = (2 * event.position + place,)
            if place < len(texts) and texts[place].text:
                rows.delete(MESSAGES.name, key, text=storable(texts[place].text))
            elif rows.get(MESSAGES.name, key) is not None:
                raise ViewError(
                    f"The search index knows words of the event at position {event.position}, "
                    "which was erased before the index could forget them; `lllm rebuild`, or "
                    "LogStore.rebuild(), makes the index anew."
                )


def position_of(identifier: int) -> tuple[int, int]:
    """Find the event of a row from the row's id.

    Args:
        identifier: The id of the row.

    Returns:
        The position of the event, and the index of the text in `texts_of` of the event.
    """
    return identifier >> 1, identifier & 1
