"""The dialect of Anthropic's Messages API: a Request as its JSON, its JSON as an Answer.

A message is a list of blocks. Where a block says more than our words can (the signature of a
thought, what a text cites, who called a tool), it is kept whole as the `data` of a part, and goes
back as it came: the API refuses a thought that was changed or left out while tools are in use.
Nothing here touches a network. The fields are those of
https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import base64
import json
from itertools import groupby
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote_to_bytes

from lllm.events.errors import InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.dialect import more_of, refuse_params
from lllm.pricing.amounts import billed_of
from lllm.pricing.usage import of_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Block = dict[str, object]

# The API insists on a limit. No model on its list stops before 64,000 tokens, but an answer that
# may take ten minutes should be streamed; the SDK counts 128,000 tokens an hour, so that 21,333 is
# the most it lets one wait for: https://platform.claude.com/docs/en/api/errors#long-requests
DEFAULT_MAX_TOKENS = 16_384

_FINISH: dict[object, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_NOT_PARAMS = ("model", "messages", "system", "tools", "stream")  # a Request says them elsewhere
_THOUGHTS = ("thinking", "redacted_thinking")
_OF_ANSWER = ("id", "type", "role", "model", "content", "stop_reason", "stop_details", "usage")


def payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the HTTP request.

    Params are passed on as they are, and win over what is made of `output_schema`. Without a
    `max_tokens` among them the answer may have DEFAULT_MAX_TOKENS, and what `thinking` is given.

    Raises ConfigError for a param that the request says elsewhere, and InvokeError for a part of a
    message that this dialect can't carry.
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
        body["output_config"] = form | dict(_mapping(request.params.get("output_config")))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = {"type": request.tool_choice}
    if stream:
        body["stream"] = True
    return body


def _thinking_budget(params: Mapping[str, object]) -> int:
    """Thoughts count towards max_tokens, which must be more than they may have."""
    budget = _mapping(params.get("thinking")).get("budget_tokens")
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
    # The results of tools that were asked for together must come together, in a user's message.
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
    """None for what is not said again: an empty text, which the API refuses, a thought of another
    provider, the reasons of a refusal."""
    if part.kind == "reasoning":
        thought = _mapping(part.data)
        return dict(thought) if thought.get("type") in _THOUGHTS else None
    if part.kind == "refusal" and part.data is not None:
        return None
    if isinstance(part.data, dict):
        # Already in the provider's form, unless it says something of the whole answer.
        return part.data if "type" in part.data else None
    if part.kind in ("text", "refusal"):
        return {"type": "text", "text": part.text} if part.text and part.text.strip() else None
    if part.kind == "image" and part.data is not None:
        return {"type": "image", "source": _source(part, "image/png")}
    if part.kind == "file" and part.data is not None:
        return {"type": "document", "source": _source(part, "application/pdf")}
    raise _not_carried(part)


def _source(part: Part, mime: str) -> Block:
    """Where an image or a document is found. mime: what it is where nothing says it."""
    data, mime = part.data, part.mime or mime
    if isinstance(data, str):
        if data.startswith(("http://", "https://")):
            return {"type": "url", "url": data}
        if data.startswith("data:"):
            mime, data = _split(data, mime)
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    if not isinstance(data, str):
        raise _not_carried(part)
    if not mime.startswith("text/"):
        return {"type": "base64", "media_type": mime, "data": data}
    try:
        text = base64.b64decode(data, validate=True).decode()
    except ValueError:  # no base64, or no UTF-8
        raise _not_carried(part) from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _split(url: str, mime: str) -> tuple[str, str | bytes]:
    """The type and the data of a data: URL (RFC 2397), base64 as it is."""
    head, _, data = url.removeprefix("data:").partition(",")
    mime = head.partition(";")[0] or mime
    return mime, data if head.endswith(";base64") else unquote_to_bytes(data)


def _not_carried(part: Part) -> InvokeError:
    return InvokeError(
        f"A message has a part of kind {part.kind!r} that Messages can't carry as it is: give its "
        "data as a dict in the provider's form.",
        retryable=False,
    )


def _tool_use(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> object:
    """The arguments as an object. What is none goes back wrapped into one, as
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming says.
    """
    try:
        found: object = json.loads(arguments or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": arguments}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """What the provider's JSON says. model: the one asked, for providers that name none.

    What a model refuses ends with a part of kind "refusal": the reason, where one is given, with
    `stop_details` as its data. What it had said before stays what it is. A turn that the provider
    interrupted ("pause_turn") finishes as "other"; sent back as it is, it goes on. The fast mode,
    which has its prices, is told as the service tier "fast".

    Raises InvokeError where it holds no message; another attempt may bring one.
    """
    whole = _mapping(body)
    content, usage = whole.get("content"), _mapping(whole.get("usage"))
    tier = "fast" if usage.get("speed") == "fast" else _text(usage.get("service_tier"))
    if not isinstance(content, list):
        raise InvokeError(
            "The provider's answer has no message in it.",
            retryable=True,
            request_id=request_id,
            usage=of_messages(usage) if usage else None,
            usage_raw=whole.get("usage"),
            billed=billed_of(usage),
            service_tier=tier,
            model=_text(whole.get("model")),
        )
    blocks = [_mapping(block) for block in content]
    parts, tool_calls = _parts(blocks), _tool_calls(blocks)
    finish_raw = _text(whole.get("stop_reason"))
    finish = _FINISH.get(finish_raw, "other")
    why = _mapping(whole.get("stop_details"))
    if finish == "content_filter":
        parts = (*parts, Part("refusal", _text(why.get("explanation")), dict(why) or None))
    elif why:
        parts = (*parts, Part("stop_details", data={"stop_details": why}))
    parts = (*parts, *more_of(whole, _OF_ANSWER))
    if tool_calls and finish == "stop":
        finish = "tool_calls"  # some servers say that they are done whenever they stop
    return Answer(
        content=Content("assistant", parts, tool_calls),
        finish=finish,
        finish_raw=finish_raw,
        model=_text(whole.get("model")) or model,
        response_id=_text(whole.get("id")),
        request_id=request_id,
        service_tier=tier,
        usage_raw=whole.get("usage"),
        usage=of_messages(whole.get("usage")),
        billed=billed_of(usage),
    )


def _parts(blocks: Sequence[Mapping[str, object]]) -> tuple[Part, ...]:
    whole = _must_stay_whole(blocks)
    found = (_part(block, whole) for block in blocks)
    return tuple(part for part in found if part is not None)


def _must_stay_whole(blocks: Sequence[Mapping[str, object]]) -> bool:
    """Whether the wishes for tools say more than a ToolCall does: who called, or where among the
    other blocks they stood, when they were not the last."""
    kinds = [block.get("type") for block in blocks]
    wishes = [block for block in blocks if block.get("type") == "tool_use"]
    last = "tool_use" not in kinds or set(kinds[kinds.index("tool_use") :]) == {"tool_use"}
    return not last or any(_extras(block, "id", "name", "input") for block in wishes)


def _extras(block: Mapping[str, object], *known: str) -> bool:
    """Whether a block has more to say than its type and the known fields."""
    return any(
        value is not None and value != {"type": "direct"}  # a caller, where the model itself calls
        for name, value in block.items()
        if name not in ("type", *known)
    )


def _part(block: Mapping[str, object], whole: bool) -> Part | None:
    kind = _text(block.get("type")) or "unknown"
    if kind == "text":
        text = _text(block.get("text"))
        more = dict(block) if _extras(block, "text") else None
        return Part("text", text, more) if text or more else None
    if kind in _THOUGHTS:
        return Part("reasoning", _text(block.get("thinking")), dict(block))
    if kind == "tool_use" and not whole:
        return None
    return Part(kind, data=dict(block))  # a tool that the provider runs itself, and what it gave


def _tool_calls(blocks: Sequence[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    wishes = [block for block in blocks if block.get("type") == "tool_use"]
    return tuple(
        ToolCall(
            _text(wish.get("id")) or f"call_{number}",
            _text(wish.get("name")) or "",
            _arguments(wish.get("input")),
        )
        for number, wish in enumerate(wishes, 1)
    )


def _arguments(given: object) -> str:
    if isinstance(given, str):
        return given  # of a stream, where it is no JSON
    return "" if given is None else json.dumps(given, ensure_ascii=False)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
