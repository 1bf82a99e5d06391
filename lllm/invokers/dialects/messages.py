"""The dialect of Anthropic's Messages API: writes a Request as JSON, and reads an Answer.

A message is a list of blocks. A block that has more than lllm's types can express (the signature of
a thought, citations, the caller of a tool) is kept whole as the `data` of a part, and is sent back
unchanged: the API refuses a thought that was changed or omitted while tools are in use. Nothing
here uses the network. The fields are documented at
https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import base64
import json
from itertools import groupby
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote_to_bytes

from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.answers import answer_without, build_answer, use_of
from lllm.invokers.dialects.dialect import more_of, not_carried, refuse_params
from lllm.invokers.dialects.provider_json import arguments_text, mapping, text
from lllm.pricing.usage import of_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Block = dict[str, object]

# The API requires a limit. No listed model stops before 64,000 tokens, but an answer that may take
# ten minutes should be streamed. The SDK assumes 128,000 tokens an hour, so 21,333 is the most that
# it allows without streaming: https://platform.claude.com/docs/en/api/errors#long-requests
DEFAULT_MAX_TOKENS = 16_384

_FINISH: dict[object, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_NOT_PARAMS = ("model", "messages", "system", "tools", "stream")  # a Request has fields for these
_THOUGHTS = ("thinking", "redacted_thinking")
_OF_ANSWER = ("id", "type", "role", "model", "content", "stop_reason", "stop_details", "usage")


def payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """Make the body of the HTTP request.

    Params are passed on unchanged, and win over `output_schema`. Without `max_tokens` among them,
    the answer may have DEFAULT_MAX_TOKENS plus the budget for `thinking`.

    Args:
        request: The request to send.
        stream: True to request a streamed answer.

    Returns:
        The body, ready to be encoded as JSON.

    Raises:
        ConfigError: A param belongs to a field of the Request.
        InvokeError: A part of a message has no form in this dialect.
    """
    refuse_params(request, *_NOT_PARAMS)
    system = [content for content in request.messages if content.role == "system"]
    turns = [content for content in request.messages if content.role != "system"]
    body: dict[str, object] = {
        "model": request.model,
        "max_tokens": DEFAULT_MAX_TOKENS + _thinking_budget(request.params),
        "messages": _messages(turns),
    }
    if said := _blocks_of(system):
        body["system"] = said
    body.update(request.params)
    if request.output_schema is not None:
        form = {"format": {"type": "json_schema", "schema": request.output_schema}}
        body["output_config"] = form | dict(mapping(request.params.get("output_config")))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = {"type": request.tool_choice}
    if stream:
        body["stream"] = True
    return body


def _thinking_budget(params: Mapping[str, object]) -> int:
    """Get the token budget for thinking, which must be less than max_tokens."""
    budget = mapping(params.get("thinking")).get("budget_tokens")
    return budget if isinstance(budget, int) else 0


def _tool(tool: ToolDefinition) -> Block:
    told: Block = {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.schema,
    }
    if tool.strict is not None:
        told["strict"] = tool.strict
    return told


def _messages(turns: Sequence[Content]) -> list[dict[str, object]]:
    # The results of tools that were called together must be together in one user message.
    spoken = groupby(turns, lambda content: "assistant" if content.role == "assistant" else "user")
    told = [(role, _blocks_of(contents)) for role, contents in spoken]
    return [{"role": role, "content": blocks} for role, blocks in told if blocks]


def _blocks_of(contents: Iterable[Content]) -> list[Block]:
    return [block for content in contents for block in _blocks(content)]


def _blocks(content: Content) -> list[Block]:
    blocks = [block for part in content.parts if (block := _block(part)) is not None]
    if content.role == "tool":
        result: Block = {"type": "tool_result", "tool_use_id": content.call_id or ""}
        return [result | {"content": blocks} if blocks else result]
    whole = {block.get("id") for block in blocks if block.get("type") == "tool_use"}
    return blocks + [_tool_use(call) for call in content.tool_calls if call.id not in whole]


def _block(part: Part) -> Block | None:
    """Make the block for a part; None if it is not sent again.

    These are not sent: an empty text, which the API refuses, a thought of another provider, and the
    reason of a refusal.
    """
    if part.kind == "reasoning":
        thought = mapping(part.data)
        return dict(thought) if thought.get("type") in _THOUGHTS else None
    if part.kind == "refusal" and part.data is not None:
        return None
    if isinstance(part.data, dict):
        # Already in the provider's form, unless it is about the whole answer.
        return part.data if "type" in part.data else None
    if part.kind in ("text", "refusal"):
        return {"type": "text", "text": part.text} if part.text and part.text.strip() else None
    if part.kind == "image" and part.data is not None:
        return {"type": "image", "source": _source(part, "image/png")}
    if part.kind == "file" and part.data is not None:
        return {"type": "document", "source": _source(part, "application/pdf")}
    raise not_carried(part, "Messages")


def _source(part: Part, mime: str) -> Block:
    """Make the source of an image or document; `mime` is its type if nothing else tells."""
    data, mime = part.data, part.mime or mime
    if isinstance(data, str):
        if data.startswith(("http://", "https://")):
            return {"type": "url", "url": data}
        if data.startswith("data:"):
            mime, data = _split_data_url(data, mime)
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    if not isinstance(data, str):
        raise not_carried(part, "Messages")
    if not mime.startswith("text/"):
        return {"type": "base64", "media_type": mime, "data": data}
    try:
        plain = base64.b64decode(data, validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        raise not_carried(part, "Messages") from None
    return {"type": "text", "media_type": "text/plain", "data": plain}


def _split_data_url(url: str, mime: str) -> tuple[str, str | bytes]:
    """Split a data: URL (RFC 2397) into its type and its data, base64 as it is."""
    head, _, data = url.removeprefix("data:").partition(",")
    mime = head.partition(";")[0] or mime
    return mime, data if head.endswith(";base64") else unquote_to_bytes(data)


def _tool_use(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> object:
    """Read a call's arguments as an object; anything else is wrapped into one.

    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    try:
        found: object = json.loads(arguments or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": arguments}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read an Answer from a provider's JSON.

    A refusal ends with a part of kind "refusal": its text is the reason, if there is one, and its
    data is `stop_details`. The text before it is kept. A turn that the provider interrupted
    ("pause_turn") finishes as "other"; it continues if it is sent back unchanged. The fast mode,
    which has its own prices, is reported as the service tier "fast":

    Args:
        body: The provider's answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The body has no message; a retry may help. The error has the usage, because it
            is billed.
    """
    whole = mapping(body)
    content, usage = whole.get("content"), mapping(whole.get("usage"))
    tier = "fast" if usage.get("speed") == "fast" else text(usage.get("service_tier"))
    use = use_of(whole, of_messages)._replace(service_tier=tier)
    if not isinstance(content, list):
        raise answer_without("message", use, request_id)
    blocks = [mapping(block) for block in content]
    parts = _parts(blocks)
    finish_raw = text(whole.get("stop_reason"))
    finish = _FINISH.get(finish_raw, "other")
    why = mapping(whole.get("stop_details"))
    if finish == "content_filter":
        parts = (*parts, Part("refusal", text(why.get("explanation")), dict(why) or None))
    elif why:
        parts = (*parts, Part("stop_details", data={"stop_details": why}))
    parts = (*parts, *more_of(whole, _OF_ANSWER))
    return build_answer(
        whole,
        Content("assistant", parts, _tool_calls(blocks)),
        use,
        finish=finish,
        finish_raw=finish_raw,
        model=model,
        request_id=request_id,
    )


def _parts(blocks: Sequence[Mapping[str, object]]) -> tuple[Part, ...]:
    whole = _must_stay_whole(blocks)
    found = (_part(block, whole) for block in blocks)
    return tuple(part for part in found if part is not None)


def _must_stay_whole(blocks: Sequence[Mapping[str, object]]) -> bool:
    """True if tool calls have more fields than a ToolCall.

    These are the caller of the tool, or the call's place among other blocks if it was not the last.
    """
    kinds = [block.get("type") for block in blocks]
    wishes = [block for block in blocks if block.get("type") == "tool_use"]
    last = "tool_use" not in kinds or set(kinds[kinds.index("tool_use") :]) == {"tool_use"}
    return not last or any(_extras(block, "id", "name", "input") for block in wishes)


def _extras(block: Mapping[str, object], *known: str) -> bool:
    """True if a block has more than its type and the known fields."""
    return any(
        # the caller, if the model itself made the call
        value is not None and value != {"type": "direct"}
        for name, value in block.items()
        if name not in ("type", *known)
    )


def _part(block: Mapping[str, object], whole: bool) -> Part | None:
    kind = text(block.get("type")) or "unknown"
    if kind == "text":
        words = text(block.get("text"))
        more = dict(block) if _extras(block, "text") else None
        return Part("text", words, more) if words or more else None
    if kind in _THOUGHTS:
        return Part("reasoning", text(block.get("thinking")), dict(block))
    if kind == "tool_use" and not whole:
        return None
    return Part(kind, data=dict(block))  # a tool that the provider runs, and its result


def _tool_calls(blocks: Sequence[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    wishes = [block for block in blocks if block.get("type") == "tool_use"]
    return tuple(
        ToolCall(
            text(wish.get("id")) or f"call_{number}",
            text(wish.get("name")) or "",
            # In a stream, an input that is not valid JSON is a text.
            arguments_text(wish.get("input"), ascii_only=False),
        )
        for number, wish in enumerate(wishes, 1)
    )
