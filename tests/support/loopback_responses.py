"""What a provider on this machine says in the dialect of the Responses API, whole or as a stream.

server.answers(sent(response(says("Hello."))))
server.answers(streamed(response(thinks("Hm."), wants("look", "{}"))))
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.loopback import JSON, Reply
from tests.support.loopback_streams import End, sse

MODEL = "gpt-5-mini-2025-08-07"
USAGE: JSON = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 29,
}


def response(*items: JSON, status: str = "completed", **fields: Any) -> JSON:
    """A response. fields: what of it is to be otherwise (usage, model, ...)."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": MODEL,
        "output": list(items),
        "service_tier": "default",
        "usage": USAGE,
    } | fields


def says(*texts: str, **more: Any) -> JSON:
    """An item that is a message, a piece for each text."""
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": content,
    } | more


def thinks(*summaries: str, **more: Any) -> JSON:
    """An item of reasoning."""
    summary = [{"type": "summary_text", "text": text} for text in summaries]
    item: JSON = {"type": "reasoning", "id": "rs_1", "summary": summary}
    return item | {"encrypted_content": "gAAAA"} | more


def wants(name: str, arguments: str, *, number: int = 1, **more: Any) -> JSON:
    """An item that asks for a tool."""
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": name,
        "arguments": arguments,
        "status": "completed",
    } | more


def sent(whole: JSON) -> Reply:
    """A response in one piece."""
    return Reply(body=json.dumps(whole).encode(), headers={"x-request-id": "req_1"})


def streamed(whole: JSON, *, end: End = "whole", upto: int | None = None) -> Reply:
    """A response as events. upto: how many of them are sent."""
    return sse(*events_of(whole)[:upto], end=end)


def events_of(whole: JSON, size: int = 3) -> list[JSON]:
    """The events that bring a response, its texts in pieces of `size` characters."""
    began = whole | {"status": "in_progress", "output": [], "usage": None}
    events: list[JSON] = [
        {"type": "response.created", "response": began},
        {"type": "response.in_progress", "response": began},
    ]
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "item": _begun(item)} | place)
        events += [delta | place for delta in _deltas(item, size)]
        events.append({"type": "response.output_item.done", "item": item} | place)
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _begun(item: JSON) -> JSON:
    """An item without what its deltas bring."""
    empty: JSON = {"content": [], "summary": [], "arguments": ""}
    return item | {key: value for key, value in empty.items() if key in item}


def _deltas(item: JSON, size: int) -> list[JSON]:
    if item["type"] == "function_call":
        kind = "response.function_call_arguments.delta"
        return [{"type": kind, "delta": piece} for piece in _cut(item["arguments"], size)]
    if item["type"] == "reasoning":
        kind, place, pieces = "reasoning_summary_text", "summary_index", item["summary"]
    else:
        kind, place, pieces = "output_text", "content_index", item.get("content", [])
    return [
        {"type": f"response.{kind}.delta", place: number, "delta": cut}
        for number, piece in enumerate(pieces)
        for cut in _cut(piece.get("text", ""), size)
    ]


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
