"""What each request sent, from the events of its session alone, as a replay would need it."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

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
    """Find all messages that each request sent.

    Args:
        events: The payloads of one session, in order.

    Returns:
        The messages, oldest first, by the ordinal of the request.
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
                    for ordinal, content in sorted(dialogs.get(event.dialog, []), key=itemgetter(0))
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
