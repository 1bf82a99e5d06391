"""Recognises an answer when a client sends it back as a message of its next request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import msgspec

from lllm.agents.dialog import message_digest
from lllm.events.model import Content, Part, ToolCall

# Also dropped from tool calls that are stored as parts because they have more than a call's fields.
_CALLS = ("tool_use", "function_call", "custom_tool_call")


def digests_of(content: Content) -> tuple[bytes, bytes]:
    """Calculate the digests by which a message is recognised.

    Args:
        content: The message.

    Returns:
        Its `message_digest`, and the digest used for comparison: 32 bytes that are equal for an
        answer and for the message as which a client sends that answer back.
    """
    digest = message_digest(content)
    again = sent_again(content)
    return digest, digest if again is content else message_digest(again)


def sent_again(content: Content) -> Content:
    """Convert a message to the one form that all clients' versions of it share.

    Frameworks reformat arguments, and omit what only an answer has: thoughts without a signature,
    citations, other choices.
    """
    if not content.tool_calls and all(_is_text_alone(part) for part in content.parts):
        return content  # most messages of a conversation that is sent again
    calls = tuple(_compared_call(call) for call in content.tool_calls)
    parts = content.parts
    if content.role == "assistant":
        parts = tuple(_compared_part(part) for part in parts if not _is_beside(part, calls))
    if calls != content.tool_calls or parts != content.parts:
        content = msgspec.structs.replace(content, parts=parts, tool_calls=calls)
    return content


def sent_apart(content: Content) -> list[Content]:
    """Divide an answer into the messages as which clients of the Responses API send it back.

    There, thoughts, texts and calls are items of their own, each of which is read as a message
    (https://platform.openai.com/docs/guides/conversation-state).

    Args:
        content: The answer.

    Returns:
        The messages; empty if they are not several.
    """
    if content.role != "assistant" or len(content.parts) + len(content.tool_calls) < 2:
        return []
    calls = {call.id: call for call in content.tool_calls}
    made: list[Content] = []
    for part in content.parts:
        data = part.data if isinstance(part.data, dict) else {}
        if part.kind not in _CALLS:
            if not _is_beside(part, ()):
                made.append(Content("assistant", (part,)))
        elif part.kind == "function_call" and data.get("call_id") in calls:
            made.append(Content("assistant", (), (calls.pop(data["call_id"]),)))
        else:
            calls.pop(str(data.get("call_id")), None)
            made.append(Content("assistant", (part,)))
    made += [Content("assistant", (), (call,)) for call in calls.values()]
    return made if len(made) > 1 else []


def _compared_part(part: Part) -> Part:
    """Leave out what an item of an answer may lack when it is sent back."""
    if part.kind == "text":
        return Part("text", part.text)
    if part.kind == "reasoning" and isinstance(part.data, dict):
        data = {key: value for key, value in part.data.items() if value and key != "status"}
        return Part("reasoning", json.dumps(data, sort_keys=True))  # clients reorder the keys
    return part


def _is_text_alone(part: Part) -> bool:
    return part.kind == "text" and part.data is None and part.blob is None and part.mime is None


def _is_beside(part: Part, calls: Sequence[ToolCall]) -> bool:
    """True if clients omit this part when they send an answer back."""
    if part.kind == "reasoning":
        return part.data is None
    if part.kind in _CALLS:
        return bool(calls)
    named = isinstance(part.data, dict) and part.data.keys() == {part.kind}
    return part.kind in ("choice", "audio") or (named and part.text is None)


def _compared_call(call: ToolCall) -> ToolCall:
    """Format the arguments of a call uniformly, if they are JSON."""
    try:
        found: object = json.loads(call.arguments, object_pairs_hook=_once)
        same = json.dumps(found, sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return call
    return msgspec.structs.replace(call, arguments=same)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a dict from pairs; an object with duplicate keys is compared as text."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the object has a key twice")
    return found


def chained(before: bytes, digest: bytes) -> bytes:
    """Calculate the digest of a list that continues `before` with one message."""
    return hashlib.sha256(before + digest).digest()
