"""What a provider on this machine streams: server-sent events, and Chat Completions as such.

server.answers(chat("Hel", "lo."))
server.answers(sse(chunk(content="Hel"), end="cut"))
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from tests.support.loopback import JSON, USAGE, Reply

Sent = JSON | str | bytes | threading.Event  # an event, its data, bytes as they are, or a wait
End = Literal["whole", "cut", "hang"]


def sse(*events: Sent, end: End = "whole") -> Reply:
    """Events, one by one. end: how the stream ends, see Reply."""
    return Reply(pieces=list(_pieces(events)), end=end, headers={"x-request-id": "req_1"})


class _Endless:
    """Events that come again and again; each request has an iterator of its own."""

    def __init__(self, events: Sequence[Sent]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes | threading.Event]:
        while True:
            yield from _pieces(self._events)


def endless(*events: Sent) -> Reply:
    """Events that come again and again, until the client goes."""
    return Reply(pieces=_Endless(events))


def _pieces(events: Iterable[Sent]) -> Iterator[bytes | threading.Event]:
    for event in events:
        if isinstance(event, (bytes, threading.Event)):
            yield event
        else:
            data = event if isinstance(event, str) else json.dumps(event)
            yield f"data: {data}\n\n".encode()


def chunk(finish: str | None = None, /, **delta: Any) -> JSON:
    """One chunk of a chat completion. delta: what is new of the message."""
    return whole_chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def whole_chunk(choices: list[JSON], **fields: Any) -> JSON:
    """One with the choices and other fields as given."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": choices,
    } | fields


def usage_chunk(usage: object = USAGE) -> JSON:
    """The last one, which has the usage and no choices."""
    return whole_chunk([], usage=usage)


def chat(*pieces: str | JSON, finish: str = "stop", usage: object = USAGE) -> Reply:
    """A whole answer in pieces of text, or of other deltas, as OpenAI streams it."""
    said = [chunk(**(p if isinstance(p, dict) else {"content": p})) for p in pieces]
    begin, end = chunk(role="assistant", content="", refusal=None), chunk(finish)
    return sse(begin, *said, end, usage_chunk(usage), "[DONE]")


def call_piece(index: int | None, arguments: object, **first: str) -> JSON:
    """The delta of a tool call. first: `id` and `name`, of the piece that begins it."""
    function = {"arguments": arguments} | {key: first[key] for key in ("name",) if key in first}
    piece: JSON = {"function": function} | {key: first[key] for key in ("id",) if key in first}
    return {"tool_calls": [piece if index is None else piece | {"index": index}]}
