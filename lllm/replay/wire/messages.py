"""Builds a recorded answer as Anthropic's Messages API sends it, so that it can be read again.

https://platform.claude.com/docs/en/api/messages and, for streams,
https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from lllm.events.model import Part, ToolCall
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire.pieces import JSON, named_value, pieces_of

# Blocks whose input is streamed in pieces:
# https://platform.claude.com/docs/en/build-with-claude/streaming
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_BESIDE = ("context_management",)  # fields that are next to the delta of a message, not in it
_LAST = "amazon-bedrock-"  # the prefix of fields that Bedrock adds to the last event


def body(answer: Answer) -> JSON:
    """Build an answer that is not streamed.

    Args:
        answer: The recorded answer.

    Returns:
        The JSON of the response body.
    """
    blocks, more = _said(answer)
    return _head(answer) | {"content": blocks, "stop_sequence": None} | more | _end(answer)


def events(answer: Answer, *, finished: bool = True) -> Iterator[JSON]:
    """Build a streamed answer.

    Args:
        answer: The recorded answer.
        finished: False for an answer that broke off, which gets no final events.

    Yields:
        The JSON of each event, with its `type`.
    """
    blocks, more = _said(answer)
    usage = dict(mapping(answer.usage_raw))
    counts = isinstance(usage.get("output_tokens"), int)
    begun = usage | ({"output_tokens": 0} if counts else {})
    empty: JSON = {"content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": _head(answer) | empty | {"usage": begun}}
    for index, block in enumerate(blocks):
        start, deltas = _grown(block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    if finished:
        beside = {name: more.pop(name) for name in _BESIDE if name in more}
        last = {name: more.pop(name) for name in [*more] if name.startswith(_LAST)}
        delta = {"stop_reason": answer.finish_raw, "stop_sequence": None} | more
        told = ("output_tokens", "server_tool_use")
        used = {name: usage[name] for name in told if name in usage}
        yield {"type": "message_delta", "delta": delta, "usage": used} | beside
        yield {"type": "message_stop"} | last


def _head(answer: Answer) -> JSON:
    return {
        "id": answer.response_id or "",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
    }


def _end(answer: Answer) -> JSON:
    end: JSON = {"stop_reason": answer.finish_raw}
    return end if answer.usage_raw is None else end | {"usage": answer.usage_raw}


def _said(answer: Answer) -> tuple[list[JSON], JSON]:
    """Give the content blocks of a message, and its further fields."""
    blocks: list[JSON] = []
    more: JSON = {}
    for part in answer.content.parts:
        data = part.data
        if part.kind == "refusal" and not _is_block(data):
            if data is not None:
                more["stop_details"] = data
            elif part.text:
                more["stop_details"] = {"type": "refusal", "explanation": part.text}
        elif named_value(part.kind, data):
            more |= mapping(data)
        else:
            blocks.append(_block(part))
    if not any(block.get("type") == "tool_use" for block in blocks):
        blocks += [_tool_use(call) for call in answer.content.tool_calls]
    return blocks, more


def _is_block(data: object) -> bool:
    return isinstance(data, Mapping) and data.get("type") == "text"


def _block(part: Part) -> JSON:
    if isinstance(part.data, dict):
        return part.data
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": part.text or "", "signature": ""}
    return {"type": "text", "text": part.text or ""}


def _tool_use(call: ToolCall) -> JSON:
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": _input(call.arguments),
    }


def _input(arguments: str) -> object:
    """Give the input of a tool call: JSON values, or the text if JSON would change it."""
    if not arguments:
        return None
    try:
        found: object = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    same = json.dumps(found, ensure_ascii=False) == arguments
    return found if same and not isinstance(found, str) else arguments


def _grown(block: JSON) -> tuple[JSON, list[JSON]]:
    """Split a block into what its start event has and the deltas that complete it."""
    kind = block.get("type")
    start = dict(block)
    deltas: list[JSON] = []
    for field in ("text", "thinking"):
        said = block.get(field)
        if kind == field and isinstance(said, str):
            start[field] = ""
            deltas += [{"type": f"{field}_delta", field: piece} for piece in pieces_of(said)]
    if kind == "text" and isinstance(block.get("citations"), list):
        start["citations"] = []
        cited = items(block["citations"])
        deltas += [{"type": "citations_delta", "citation": one} for one in cited]
    if kind == "thinking" and isinstance(block.get("signature"), str):
        start["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    if kind in _CALLS and (given := block.get("input")):
        start["input"] = {}
        written = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        deltas += [
            {"type": "input_json_delta", "partial_json": piece} for piece in pieces_of(written)
        ]
    return start, deltas
