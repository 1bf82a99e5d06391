"""Makes messages from the forms in which spans have them."""

from __future__ import annotations

from collections.abc import Iterator

from lllm.events.model import Content, Part, ToolCall
from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    json_in,
    objects_in,
    text_of,
)

_ROLES = {"model": "assistant", "ai": "assistant", "human": "user", "developer": "system",
          "function": "tool"}  # fmt: skip
_CALLS = ("tool_call", "server_tool_call", "tool-call", "tool_use")
_RESULTS = ("tool_call_response", "server_tool_call_response", "tool-result", "tool_result")


def contents_of(value: object, role: str = "user") -> tuple[Content, ...]:
    """Make messages from a list of them, or from a text.

    Each message has a role, and either `parts` (the conventions of OpenTelemetry and of Google) or
    `content` and perhaps `tool_calls` (OpenAI's form, and that of Vercel's AI SDK).

    Args:
        value: The messages as JSON, or JSON in a text.
        role: The role of messages that say none.

    Returns:
        The messages, oldest first.
    """
    found = json_in(value)
    if isinstance(found, dict):
        found = found.get("messages", [found])
    if isinstance(found, str):
        return (Content.of(role, found),) if found else ()
    return tuple(content for one in objects_in(found) for content in _contents(one, role))


def system_of(value: object) -> tuple[Content, ...]:
    """Make the system message from instructions: a list of parts, or a text."""
    found = json_in(value)
    if isinstance(found, str):
        return (Content.of("system", found),) if found else ()
    parts = tuple(_part(one) for one in objects_in(found))
    return (Content("system", parts),) if parts else ()


def answer_of(value: object) -> Content | None:
    """Make the answer from a list of messages, of which the first is taken; None if it is empty."""
    found = [one for one in contents_of(value, "assistant") if one.role == "assistant"]
    return found[0] if found else None


def _contents(one: Attributes, default: str) -> Iterator[Content]:
    named = one.get("role")
    role = _ROLES.get(named, named) if isinstance(named, str) and named else default
    if role not in ("system", "user", "assistant", "tool"):
        role = default
    given = one.get("parts", one.get("content", one.get("contents")))
    pieces = given if isinstance(given, list) else [given]
    parts: list[Part] = []
    calls = [_call(call) for call in objects_in(one.get("tool_calls", one.get("toolCalls")))]
    results: list[Content] = []
    for piece in pieces:
        if isinstance(piece, str):
            if piece:
                parts.append(Part("text", piece))
        elif isinstance(piece, dict):
            _sort(piece, parts, calls, results)
    call_id = one.get("tool_call_id")
    if role == "tool" and not results:
        yield Content("tool", tuple(parts), call_id=text_of(call_id) or None)
        return
    if parts or calls:
        yield Content("user" if role == "tool" else role, tuple(parts), tuple(calls))
    yield from results


def _sort(
    piece: Attributes, parts: list[Part], calls: list[ToolCall], results: list[Content]
) -> None:
    """Put a piece of a message where it belongs."""
    kind = piece.get("type")
    if kind in _CALLS or "function_call" in piece:
        calls.append(_call(piece.get("function_call", piece)))
    elif kind in _RESULTS or "function_response" in piece:
        results.append(_result(piece.get("function_response", piece)))
    else:
        parts.append(_part(piece))


def _part(piece: Attributes) -> Part:
    kind = piece.get("type") or ("text" if "text" in piece else piece.get("modality"))
    said = piece.get("content", piece.get("text", piece.get("thinking")))
    if kind in ("thinking", "reasoning", "thought") or piece.get("thought") is True:
        return Part("reasoning", said if isinstance(said, str) else None)
    if kind in ("text", "input_text", "output_text", None) and isinstance(said, str):
        return Part("text", said)
    if kind in ("blob", "file", "uri"):
        kind = piece.get("modality") or "file"
    mime = text_of(piece.get("mime_type", piece.get("mediaType"))) or None
    return Part(str(kind or "file"), None, dict(piece), mime=mime)


def _call(value: object) -> ToolCall:
    """Make a tool call from its form in OpenAI's API, the conventions, or Vercel's AI SDK."""
    one = value if isinstance(value, dict) else {}
    inner = one.get("function")
    named = inner if isinstance(inner, dict) else one
    arguments = next(
        (named[key] for key in ("arguments", "input", "args") if named.get(key) is not None), ""
    )
    return ToolCall(
        text_of(one.get("id", one.get("toolCallId", one.get("call_id")))),
        text_of(named.get("name", one.get("toolName"))),
        text_of(arguments),
    )


def _result(value: object) -> Content:
    one = value if isinstance(value, dict) else {}
    said = next(
        (one[key] for key in ("response", "result", "output", "content") if key in one), None
    )
    if isinstance(said, dict) and said.keys() == {"type", "value"}:  # Vercel's AI SDK, since 5
        said = said["value"]
    call_id = text_of(one.get("id", one.get("toolCallId", one.get("tool_use_id"))))
    text = text_of(said)
    return Content("tool", (Part("text", text),) if text else (), call_id=call_id or None)
