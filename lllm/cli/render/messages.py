"""Shows the messages and tools that a captured call sent and received.

A captured call has no agent whose dialog could be shown. Since a conversation is sent again with
every turn, only those messages are shown that a request was the first to send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from rich.text import Text
from rich.tree import Tree

from lllm.cli.render import formats
from lllm.cli.render.console import labelled
from lllm.events.model import Content, Event, LLMRequested, LLMResponded, MessageAdded, ToolCall
from lllm.projections.session.call_session import InvokeTrace
from lllm.projections.session.conversation import first_sent_by_request
from lllm.terminal_safe import visible

_LONG = 240  # characters shown of a message
_SHORT = 80  # of arguments and results
_MOST = 20  # messages of one request


class SentAndGot(msgspec.Struct, frozen=True, gc=False):
    """The messages that one request sent, and its answer.

    Attributes:
        sent: The messages that it was the first to send, except results of tools.
        results: The results of the tools that its answer called, in the order of the calls; they
            were sent by a later request. None for a call without a known result.
    """

    sent: tuple[Content, ...] = ()
    results: tuple[Content | None, ...] = ()


NOTHING = SentAndGot()
# what `exchanges_of` looks at
EXCHANGED: frozenset[type[Event]] = frozenset({MessageAdded, LLMRequested, LLMResponded})
Exchanges = Mapping[int, SentAndGot]  # by the number of the request within its session


def exchanges_of(events: Iterable[Event]) -> Exchanges:
    """Find the messages that each request of a session sent and received.

    Args:
        events: The payloads of the session, in order.

    Returns:
        The exchanges, by the number of the request within its session.
    """
    payloads = list(events)
    results = _tool_results(payloads)
    answered = {id(content) for of_one in results.values() for content in of_one if content}
    sent = first_sent_by_request(payloads)
    return {
        request: SentAndGot(
            tuple(one for one in sent.get(request, ()) if id(one) not in answered),
            tuple(results.get(request, ())),
        )
        for request in sent.keys() | results.keys()
    }


def _tool_results(payloads: Iterable[Event]) -> dict[int, list[Content | None]]:
    """Find the results of the tools that each answer called; None if unknown.

    Ids of calls may repeat: a result belongs to the last call with its id that has no result yet.
    """
    results: dict[int, list[Content | None]] = {}
    waiting: dict[str, list[tuple[int, int]]] = {}
    for event in payloads:
        if isinstance(event, LLMResponded):
            results[event.request] = [None] * len(event.content.tool_calls)
            for place, call in enumerate(event.content.tool_calls):
                waiting.setdefault(call.id, []).append((event.request, place))
        elif isinstance(event, MessageAdded) and event.content.call_id is not None:
            places = waiting.get(event.content.call_id)
            if places:
                request, place = places.pop()
                results[request][place] = event.content
    return results


def add_exchange(node: Tree, trace: InvokeTrace, exchange: SentAndGot) -> None:
    """Add messages and tools below an attempt.

    Args:
        node: The attempt's node of the tree.
        trace: The attempt.
        exchange: The messages that it sent and received.
    """
    for content in exchange.sent[:_MOST]:
        for line in _message_lines(content, content.role):
            node.add(line)
    if len(exchange.sent) > _MOST:
        node.add(Text(f"… {formats.counted(len(exchange.sent) - _MOST, 'message')} more", "dim"))
    answer = trace.content
    if answer is None:
        return
    for line in _message_lines(answer, "answer" if trace.error is None else "begun"):
        node.add(line)
    results = exchange.results + (None,) * len(answer.tool_calls)
    for call, result in zip(answer.tool_calls, results, strict=False):
        node.add(_tool_line(call, result))


def _message_lines(content: Content, label: str) -> Iterator[Text]:
    """Format a message as lines: its text, and its other parts."""
    if content.text:
        yield labelled(label, formats.shortened(content.text, _LONG))
    others = [part for part in content.parts if part.kind != "text"]
    for part in others:
        if part.text:
            yield labelled(part.kind, formats.shortened(part.text, _LONG))
    kinds = Counter(part.kind for part in others if not part.text)
    if kinds:
        counted = (f"{number:,} {visible(kind)}" for kind, number in kinds.items())
        yield labelled(label, Text(f"({', '.join(counted)})", "dim"))


def _tool_line(call: ToolCall, result: Content | None) -> Text:
    line = Text.assemble(
        ("tool ", "dim"), (visible(call.name), "magenta"),
        f" {formats.shortened(call.arguments, _SHORT)}",
    )  # fmt: skip
    if result is not None:
        line.append(" → ", "dim").append(formats.shortened(result.text, _SHORT))
    return line
