"""What each request sent to its model, from the events of its session alone.

A message stands in the log once. A request names its dialog and the last message of it that was
sent, so that it costs the same however long the dialog is; a replay or an auditor gets the whole
conversation back here.
"""

from __future__ import annotations

from collections.abc import Iterable

from lllm.events.model import (
    Content,
    DialogOpened,
    Event,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)


def sent_by_request(events: Iterable[Event]) -> dict[int, tuple[Content, ...]]:
    """The messages that each request sent, oldest first, by the ordinal of the request.

    events: the payloads of one session, in order.
    """
    dialogs: dict[int | None, list[tuple[int, Content]]] = {}
    of_request: dict[int, int | None] = {}
    of_tool: dict[int, int | None] = {}
    sent: dict[int, tuple[Content, ...]] = {}
    for event in events:
        match event:
            case DialogOpened():
                above = dialogs.get(event.parent, [])
                dialogs[event.dialog] = [
                    (ordinal, content) for ordinal, content in above if ordinal <= (event.upto or 0)
                ]
            case MessageAdded():
                dialogs.setdefault(event.dialog, []).append((event.message, event.content))
            case LLMRequested():
                of_request[event.request] = event.dialog
                sent[event.request] = tuple(
                    content
                    # Tools that ran at once stand in the log as they ended.
                    for ordinal, content in sorted(dialogs.get(event.dialog, []), key=_ordinal)
                    if ordinal <= (event.upto or 0)
                )
            case LLMResponded():
                dialog = of_request.get(event.request)
                dialogs.setdefault(dialog, []).append((event.message, event.content))
            case ToolCalled():
                of_tool[event.tool] = of_request.get(event.request)
            case ToolReturned() | ToolFailed():
                dialog = of_tool.get(event.tool)
                dialogs.setdefault(dialog, []).append((event.message, event.content))
            case _:
                pass
    return sent


def first_sent_by_request(events: Iterable[Event]) -> dict[int, tuple[Content, ...]]:
    """The messages that each request was the first to send, oldest first, by its ordinal.

    Args:
        events: The payloads of one session, in order.

    Returns:
        Answers are not among them, nor the results of tools that lllm ran: their own events have
        these.
    """
    waiting: dict[int | None, list[tuple[int, Content]]] = {}
    sent: dict[int, tuple[Content, ...]] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            waiting.setdefault(event.dialog, []).append((event.message, event.content))
        elif isinstance(event, LLMRequested):
            added = sorted(waiting.pop(event.dialog, []), key=_ordinal)
            sent[event.request] = tuple(content for _, content in added)
    return sent


def _ordinal(message: tuple[int, Content]) -> int:
    return message[0]
