"""Finds the messages that each request of a captured conversation was the first to send.

The log has each message once. A request names its dialog and the last message that was sent, so a
request takes the same space however long the dialog is.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from lllm.events.model import Content, Event, LLMRequested, MessageAdded


def first_sent_by_request(events: Iterable[Event]) -> dict[int, tuple[Content, ...]]:
    """Find the messages that each request was the first to send.

    Args:
        events: The decoded payloads of one session, in order.

    Returns:
        The messages, oldest first, by the number of the request. Answers, and results of tools that
        lllm ran, are left out: their own events have them.
    """
    waiting: dict[int | None, list[tuple[int, Content]]] = {}
    sent: dict[int, tuple[Content, ...]] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            waiting.setdefault(event.dialog, []).append((event.message, event.content))
        elif isinstance(event, LLMRequested):
            added = sorted(waiting.pop(event.dialog, []), key=itemgetter(0))
            sent[event.request] = tuple(content for _, content in added)
    return sent
