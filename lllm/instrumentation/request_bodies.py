"""Converts the body of a captured request to lllm's types, and adds options that recording needs.

An invoker does the opposite. Parts of the provider's JSON that lllm has no type for are kept
unchanged in the `data` of a part, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers.dialects.dialect import more_of
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping

# Fields of a body that seldom change; they are written once, and not with each request.
_LASTING = (
    "tools", "functions", "response_format", "text", "output_config", "output_format",
)  # fmt: skip


class CapturedRequest(msgspec.Struct, frozen=True):
    """A captured request as lllm's own types.

    Attributes:
        model: The requested model.
        contents: The messages.
        tools: The function tools, which have a JSON schema.
        lasting: The other fields that seldom change from call to call.
        params: All remaining fields of the body.
        stream: True if a streamed answer is requested.
    """

    model: str
    contents: tuple[Content, ...]
    tools: tuple[ToolDefinition, ...]
    lasting: dict[str, object]
    params: dict[str, object]
    stream: bool


class ConversationForm(msgspec.Struct, frozen=True):
    """Where an API puts the conversation in a request body.

    Attributes:
        key: The key of the list of messages.
        each: A function that converts one item of the list to messages in lllm's terms.
        first: A function that converts the messages outside of the list, such as a system prompt.
        said: The keys that hold messages, in the list or outside of it.
        others: A function that reads everything else; None for the form of OpenAI and Anthropic.
    """

    key: str
    each: Callable[[object], list[Content]]
    first: Callable[[Mapping[str, object]], list[Content]]
    said: tuple[str, ...]
    others: Callable[[Mapping[str, object], list[Content]], CapturedRequest] | None = None

    def read(self, body: Mapping[str, object]) -> CapturedRequest:
        """Parse a whole body."""
        messages = self.first(body)
        for one in items(body.get(self.key)):
            messages += self.each(one)
        return self.asked(body, messages)

    def asked(self, body: Mapping[str, object], contents: list[Content]) -> CapturedRequest:
        """Parse everything in a body except its messages, which are already parsed."""
        if self.others is not None:
            return self.others(body, contents)
        return _captured_request(body, contents, *self.said)


def asking_for_usage(body: object) -> object:
    """Add `stream_options.include_usage` to a streamed request, unless the caller set it.

    A streamed Chat Completion reports its usage, which its cost depends on, only on request:
    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options

    Args:
        body: The decoded body of the request.

    Returns:
        A changed copy; the same body if nothing has to be added.
    """
    if isinstance(body, dict) and body.get("stream") is True and "stream_options" not in body:
        return body | {"stream_options": {"include_usage": True}}
    return body


def _nothing(_: Mapping[str, object]) -> list[Content]:
    return []


def _system(body: Mapping[str, object]) -> list[Content]:
    system = body.get("system")
    return [] if system in (None, "", []) else [Content("system", _parts(system))]


def _instructions(body: Mapping[str, object]) -> list[Content]:
    said = body.get("instructions")
    messages = [Content.of("system", said)] if isinstance(said, str) and said else []
    given = body.get("input")
    if isinstance(given, str):
        messages.append(Content.of("user", given))
    return messages


def of_completions(body: Mapping[str, object]) -> CapturedRequest:
    """Parse a body of the older completions API: each prompt becomes a message."""
    return _of_plain_texts(body, "prompt")


def of_embeddings(body: Mapping[str, object]) -> CapturedRequest:
    """Parse a body of the embeddings API: each text or list of tokens becomes a message."""
    return _of_plain_texts(body, "input")


def _of_plain_texts(body: Mapping[str, object], key: str) -> CapturedRequest:
    given = body.get(key)
    one = isinstance(given, str) or (
        isinstance(given, list) and given and isinstance(given[0], int)
    )
    texts = [given] if one else items(given)
    messages = [
        Content.of("user", text)
        if isinstance(text, str)
        else Content("user", (Part("tokens", data=text),))
        for text in texts
    ]
    return _captured_request(body, messages, key)


def _captured_request(
    body: Mapping[str, object], contents: list[Content], *said: str
) -> CapturedRequest:
    """Read a request from its body; `said` lists the keys that hold messages."""
    tools: list[ToolDefinition] = []
    others: list[object] = []
    for tool in items(body.get("tools")):
        defined = _tool(mapping(tool))
        if defined is None:
            others.append(tool)
        else:
            tools.append(defined)
    lasting = {key: body[key] for key in _LASTING if key != "tools" and key in body}
    if others:
        lasting["tools"] = others
    elsewhere = {"model", "stream", *said, *_LASTING}
    return CapturedRequest(
        model=str(body.get("model") or ""),
        contents=tuple(contents),
        tools=tuple(tools),
        lasting=lasting,
        params={key: value for key, value in body.items() if key not in elsewhere},
        stream=body.get("stream") is True,
    )


def _tool(tool: Mapping[str, object]) -> ToolDefinition | None:
    """Read a function tool in any of its three forms; None for a provider's own tool."""
    function = mapping(tool.get("function")) or tool
    name = function.get("name")
    schema = function.get("parameters", function.get("input_schema"))
    if not isinstance(name, str) or schema is None or tool.get("type", "custom") not in _FUNCTIONS:
        return None
    strict = function.get("strict")
    return ToolDefinition(
        name=name,
        description=str(function.get("description") or ""),
        schema=schema,
        strict=strict if isinstance(strict, bool) else None,
    )


_FUNCTIONS = ("function", "custom")


# -- messages


def _chat_message(given: object) -> list[Content]:
    message = mapping(given)
    calls = [mapping(call) for call in items(message.get("tool_calls"))]
    parts = _parts(message.get("content"))
    for key in ("refusal", "reasoning_content", "reasoning"):
        text = message.get(key)
        if isinstance(text, str) and text:
            parts += (Part("refusal" if key == "refusal" else "reasoning", text),)
    made = [_chat_call(call) for call in calls]
    if older := mapping(message.get("function_call")):
        name = str(older.get("name") or "")
        made.append(ToolCall(name, name, arguments_text(older.get("arguments"))))
    parts += more_of(message, _OF_CHAT)
    # the older form of a tool's result, identified by the tool's name
    if message.get("role") == "function":
        return [Content("tool", parts, tuple(made), str(message.get("name") or ""))]
    if message.get("name"):
        parts += (Part("name", data={"name": message["name"]}),)
    call_id = message.get("tool_call_id")
    called = call_id if isinstance(call_id, str) else None
    return [Content(_role(message), parts, tuple(made), called)]


_OF_CHAT = (
    "role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "tool_call_id",
    "function_call", "name",
)  # fmt: skip


def _chat_call(call: Mapping[str, object]) -> ToolCall:
    function = mapping(call.get("function")) or mapping(call.get("custom"))
    arguments = arguments_text(function.get("arguments", function.get("input")))
    return ToolCall(str(call.get("id") or ""), str(function.get("name") or ""), arguments)


def _turn(given: object) -> list[Content]:
    """Read a turn of Messages; tool results in it become separate messages."""
    message = mapping(given)
    found: list[Content] = []
    parts: list[Part] = []
    calls: list[ToolCall] = []
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else items(content)
    for block in map(mapping, blocks):
        kind = block.get("type")
        if kind == "tool_result":
            call_id = str(block.get("tool_use_id") or "")
            found.append(Content("tool", _parts(block.get("content")), call_id=call_id))
        elif kind == "tool_use":
            arguments = arguments_text(block.get("input"))
            calls.append(ToolCall(str(block.get("id")), str(block.get("name")), arguments))
        else:
            parts.append(_part(block))
    if parts or calls or not found:
        found.append(Content(_role(message), tuple(parts), tuple(calls)))
    return found


def _item(given: object) -> list[Content]:
    """Read an input item of the Responses API."""
    item = mapping(given)
    kind = item.get("type", "message")
    if kind == "message":
        return [Content(_role(item), _parts(item.get("content")))]
    if kind == "function_call":
        call = ToolCall(
            str(item.get("call_id")), str(item.get("name")), arguments_text(item.get("arguments"))
        )
        return [Content("assistant", (), (call,))]
    if kind == "function_call_output":
        return [Content("tool", _parts(item.get("output")), call_id=str(item.get("call_id")))]
    return [Content("assistant", (_part(item),))]


CHAT = ConversationForm("messages", _chat_message, _nothing, ("messages",))
MESSAGES = ConversationForm("messages", _turn, _system, ("messages", "system"))
RESPONSES = ConversationForm("input", _item, _instructions, ("input", "instructions"))


def _role(message: Mapping[str, object]) -> str:
    role = message.get("role")
    return "system" if role == "developer" else str(role or "user")


# -- parts


def _parts(content: object) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Part("text", content),)
    return tuple(_part(mapping(piece)) for piece in items(content))


_PLAIN = ("type", "text")
_TEXTS = ("text", "input_text", "output_text")
_KINDS = {
    "image": "image", "image_url": "image", "input_image": "image",
    "audio": "audio", "input_audio": "audio",
    "document": "file", "file": "file", "input_file": "file",
    "thinking": "reasoning", "redacted_thinking": "reasoning", "reasoning": "reasoning",
    "refusal": "refusal",
}  # fmt: skip


def _part(piece: Mapping[str, object]) -> Part:
    kind = str(piece.get("type") or "other")
    text = piece.get("text")
    if kind in _TEXTS and isinstance(text, str):
        # A part that is marked for the cache, or has citations, is more than its text.
        more = {key: value for key, value in piece.items() if value and key not in _PLAIN}
        return Part("text", text, data=more or None)
    if kind == "refusal" and isinstance(piece.get("refusal"), str):
        return Part("refusal", str(piece["refusal"]))
    thought = piece.get("thinking")
    said = thought if isinstance(thought, str) else None
    return Part(_KINDS.get(kind, kind), said, data=dict(piece))
