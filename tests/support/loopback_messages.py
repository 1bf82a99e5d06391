"""What a provider on this machine says in Anthropic's Messages dialect, whole or as a stream.

    with Loopback() as server:
        server.answers(text("Hello."), failure(529, "overloaded_error"))
        AnthropicInvoker(base_url=base_url(server), api_key="...").invoke(request)

One reply serves both ways of asking: a request that says `stream` gets its message as events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.loopback import JSON, Loopback, Received, Reply, Script

MODEL = "claude-haiku-4-5-20251001"
USAGE: JSON = {"input_tokens": 20, "output_tokens": 5, "service_tier": "standard"}
LIMITS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z",
}


def base_url(server: Loopback) -> str:
    """What the SDK takes: the version is part of its paths."""
    return f"http://127.0.0.1:{server.port}"


def message(*blocks: JSON, stop: str | None = "end_turn", **fields: Any) -> JSON:
    """A message. fields: what of it is to be otherwise (usage, model, ...)."""
    whole: JSON = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": list(blocks),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return whole | fields


def says(text: str) -> JSON:
    """A block of text."""
    return {"type": "text", "text": text}


def wants(number: int, name: str, **arguments: object) -> JSON:
    """A block that asks for a tool."""
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": arguments}


def replies(*blocks: JSON, stop: str | None = "end_turn", **fields: Any) -> Script:
    """A good answer, streamed where that is asked for."""
    whole = message(*blocks, stop=stop, **fields)

    def reply(received: Received) -> Reply:
        return streamed(whole) if received.body.get("stream") else sent(whole)

    return reply


def sent(whole: JSON) -> Reply:
    """A message in one piece."""
    return Reply(body=json.dumps(whole).encode(), headers={"request-id": "req_1"})


def failure(
    status: int,
    code: str = "api_error",
    message: str = "It went wrong.",
    *,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in the form that Anthropic gives them."""
    told = {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_1"}
    return Reply(status, json.dumps(told).encode(), {"request-id": "req_1", **(headers or {})})


def streamed(whole: JSON, size: int = 3) -> Reply:
    """A message as a stream."""
    return stream_of(events_of(whole, size))


def stream_of(events: list[JSON]) -> Reply:
    """Events as a stream; one that lacks its end is cut off there."""
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    headers = {"request-id": "req_1", "Content-Type": "text/event-stream"}
    return Reply(body="".join(lines).encode(), headers=headers)


def error_event(code: str = "overloaded_error", message: str = "Overloaded") -> JSON:
    """What a stream says that can't go on."""
    return {"type": "error", "error": {"type": code, "message": message}}


def events_of(whole: JSON, size: int = 3) -> list[JSON]:
    """The events that bring a message, its texts in pieces of `size` characters."""
    usage: JSON = whole["usage"]
    began = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[JSON] = [{"type": "message_start", "message": began}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        start, deltas = _pieces(block, size)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {name: whole[name] for name in ("stop_reason", "stop_sequence")}
    told = {"output_tokens": usage["output_tokens"], "input_tokens": None}
    events.append({"type": "message_delta", "delta": ended, "usage": told})
    return [*events, {"type": "message_stop"}]


def _pieces(block: JSON, size: int) -> tuple[JSON, list[JSON]]:
    """How a block begins, and what makes it whole."""
    if block["type"] == "text":
        cited = [{"type": "citations_delta", "citation": c} for c in block.get("citations", ())]
        return says(""), cited + _cut("text_delta", "text", block["text"], size)
    if block["type"] == "thinking":
        signed = {"type": "signature_delta", "signature": block["signature"]}
        thought = _cut("thinking_delta", "thinking", block["thinking"], size)
        return block | {"thinking": "", "signature": ""}, [*thought, signed]
    if block["type"] in ("tool_use", "server_tool_use"):
        arguments = json.dumps(block["input"])
        return block | {"input": {}}, _cut("input_json_delta", "partial_json", arguments, size)
    return block, []


def _cut(kind: str, field: str, whole: str, size: int) -> list[JSON]:
    starts = range(0, len(whole), size)
    return [{"type": kind, field: whole[start : start + size]} for start in starts]
