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
        parts = tuple(
            Part("text", part.text) if part.kind == "text" else part
            for part in parts
            if not _is_beside(part, calls)
        )
    if calls != content.tool_calls or parts != content.parts:
        content = msgspec.structs.replace(content, parts=parts, tool_calls=calls)
    return content


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
