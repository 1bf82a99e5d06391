"""Finds the messages and tools that each captured call of a session sent and received.

A captured call has no agent whose dialog could be shown. Since a conversation is sent again with
every turn, only those messages are named that a request was the first to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lllm.events.model import Content, Event, LLMRequested, LLMResponded, MessageAdded
from lllm.projections.session.conversation import first_sent_by_request


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
