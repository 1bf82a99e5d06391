"""Finds the messages that each request of a captured conversation was the first to send.

A message stands in the log once. A request names its dialog and the last message of it that was
sent, so that it costs the same however long the dialog is.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from lllm.events.model import Content, Event, LLMRequested, MessageAdded


def first_sent_by_request(events: Iterable[Event]) -> dict[int, tuple[Content, ...]]:
    """Find the messages that each request was the first to send.

    Args:
        events: The payloads of one session, in order.

    Returns:
        The messages, oldest first, by the ordinal of the request. Answers are not among them, nor
        the results of tools that lllm ran: their own events have these.
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
