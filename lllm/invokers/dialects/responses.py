"""The dialect of OpenAI's Responses API: a Request as its JSON, its JSON as an Answer.

A conversation is a list of items there. A reasoning model wants its items back as they came, and in
their order, while tools are in use (https://platform.openai.com/docs/guides/reasoning); so what an
item says beyond our words is kept whole as the `data` of a part, and sent again. Nothing here
touches a network. The fields are those of
https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from lllm.events.errors import InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.chat_completions import schema_name
from lllm.invokers.dialects.dialect import more_of, refuse_params
from lllm.invokers.http.errors import from_event
from lllm.pricing.amounts import billed_of
from lllm.pricing.usage import of_responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Item = dict[str, object]

# What a Request says elsewhere, or what would make the answer come later than the call ends.
_NOT_PARAMS = ("model", "input", "tools", "stream", "background")
# The fields of a response that are read here, or say again what was asked:
# https://platform.openai.com/docs/api-reference/responses/object
_OF_ANSWER = (
    "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "model",
    "output", "output_text", "usage", "service_tier", "instructions", "metadata", "background",
    "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "top_logprobs", "text",
    "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt", "prompt_cache_key",
    "prompt_cache_retention", "reasoning", "safety_identifier", "store", "truncation", "user",
    "billing", "frequency_penalty", "presence_penalty",
)  # fmt: skip
_OF_MESSAGE = ("id", "type", "role", "status", "content")
_OF_PIECE = ("type", "text", "refusal")
_CALLS = ("function_call", "custom_tool_call")
_FINISH: dict[object, Finish] = {
    "completed": "stop",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}


def payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """The body of the HTTP request.

    Params are passed on as they are; a `text` among them is sent with the format that
    `output_schema` asks for, unless it has one. Nothing is said of `store` here.

    Raises ConfigError for a param that the request says elsewhere, and InvokeError for a part of a
    message that this dialect can't carry.
    """
    refuse_params(request, *_NOT_PARAMS)
    body: dict[str, object] = {
        "model": request.model,
        "input": [item for content in request.messages for item in _items(content)],
    }
    body.update(request.params)
    if (schema := request.output_schema) is not None:
        form = {"type": "json_schema", "name": schema_name(schema), "schema": schema}
        body["text"] = {"format": form} | dict(_mapping(request.params.get("text")))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)  # refused where nothing is streamed
    return body


def _tool(tool: ToolDefinition) -> Item:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        # This API is strict unless told otherwise, and refuses a schema that is not:
        # https://platform.openai.com/docs/guides/migrate-to-responses
        "strict": tool.strict is True,
    }


def _items(content: Content) -> list[Item]:
    if content.role == "assistant":
        return _assistant(content)
    said: object = content.text
    if not all(part.kind == "text" for part in content.parts):
        said = [_input(part) for part in content.parts]
    if content.role == "tool":
        call_id = content.call_id or ""
        return [{"type": "function_call_output", "call_id": call_id, "output": said}]
    return [{"role": content.role, "content": said}]


def _assistant(content: Content) -> list[Item]:
    items: list[Item] = []
    for part in content.parts:
        if isinstance(part.data, dict) and "type" in part.data:
            if part.kind != "reasoning" or part.data["type"] == "reasoning":
                items.append(part.data)
        elif part.kind in ("text", "refusal") and part.text:
            key, kind = ("text", "output_text") if part.kind == "text" else ("refusal", "refusal")
            said = {"type": kind, key: part.text}
            items.append({"type": "message", "role": "assistant", "content": [said]})
    whole = {item.get("call_id") for item in items if item["type"] in _CALLS}
    items += [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in content.tool_calls
        if call.id not in whole
    ]
    while items and items[-1]["type"] == "reasoning":
        items.pop()  # cut off before what it led to, without which the API refuses it
    return items


def _input(part: Part) -> Item:
    if part.kind == "text":
        return {"type": "input_text", "text": part.text or ""}
    if isinstance(part.data, dict):
        return part.data  # already in the provider's form
    data = base64.b64encode(part.data).decode() if isinstance(part.data, bytes) else part.data
    if isinstance(data, str) and part.kind in ("image", "file"):
        mime = part.mime or ("image/png" if part.kind == "image" else "application/pdf")
        is_address = data.startswith(("http://", "https://"))
        url = data if is_address or data.startswith("data:") else f"data:{mime};base64,{data}"
        if part.kind == "image":
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        if is_address:
            return {"type": "input_file", "file_url": url}
        name = part.text or f"file.{mime.rpartition('/')[2]}"  # it is told the kind by the name
        return {"type": "input_file", "filename": name, "file_data": url}
    raise InvokeError(
        f"A message has a part of kind {part.kind!r} that Responses can't carry as it is: give its "
        "data as a dict in the provider's form.",
        retryable=False,
    )


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """What the provider's JSON says. model: the one asked, for providers that name none.

    Items that have no words of ours, as of tools that the provider runs, are parts of their own
    kind, whole. Raises InvokeError where the response failed, and where it is none; that of a
    failed one has the usage with it.
    """
    whole = _mapping(body)
    output = whole.get("output")
    status = _text(whole.get("status"))
    usage = of_responses(whole.get("usage"))
    if status in ("failed", "cancelled"):
        failed = from_event(whole.get("error") or {"message": f"The response was {status}."})
        failed.request_id = request_id
        raise _with_usage(failed, whole)
    if not isinstance(output, list):
        lacking = "The provider's answer has no output in it."
        raise _with_usage(InvokeError(lacking, retryable=True, request_id=request_id), whole)
    items = [_mapping(item) for item in output]
    parts = (*_parts(items), *more_of(whole, _OF_ANSWER))
    content = Content("assistant", parts, _tool_calls(items))
    finish_raw = _text(_mapping(whole.get("incomplete_details")).get("reason")) or status
    finish = _FINISH.get(finish_raw, "other")
    if content.tool_calls and finish == "stop":
        finish = "tool_calls"
    return Answer(
        content=content,
        finish=finish,
        finish_raw=finish_raw,
        model=_text(whole.get("model")) or model,
        response_id=_text(whole.get("id")),
        request_id=request_id,
        service_tier=_text(whole.get("service_tier")),
        usage_raw=whole.get("usage"),
        usage=usage,
        billed=billed_of(whole.get("usage")),
    )


def _with_usage(error: InvokeError, whole: Mapping[str, object]) -> InvokeError:
    """The error, with what a response used all the same."""
    raw = whole.get("usage")
    error.usage, error.usage_raw, error.billed = of_responses(raw), raw, billed_of(raw)
    error.model, error.service_tier = _text(whole.get("model")), _text(whole.get("service_tier"))
    return error


def _parts(items: Sequence[Mapping[str, object]]) -> tuple[Part, ...]:
    whole = _must_stay_whole(items)
    return tuple(part for item in items for part in _parts_of(item, whole))


def _must_stay_whole(items: Sequence[Mapping[str, object]]) -> bool:
    """Whether the calls say more than a ToolCall does: whose they are, or where among the other
    items they stood, when they were not the last."""
    kinds = [item.get("type") for item in items]
    calls = [item for item in items if item.get("type") in _CALLS]
    if calls and any(kind not in _CALLS for kind in kinds[items.index(calls[0]) :]):
        return True
    return any(
        call["type"] != "function_call" or call.get("namespace") or call.get("caller")
        for call in calls
    )


def _parts_of(item: Mapping[str, object], whole: bool) -> tuple[Part, ...]:
    kind = _text(item.get("type")) or "unknown"
    if kind == "message":
        return _said(item)
    if kind == "reasoning":
        thoughts = _texts(item.get("summary"), "text") or _texts(item.get("content"), "text")
        return (Part("reasoning", "\n\n".join(thoughts) or None, dict(item)),)
    if kind in _CALLS and not whole:
        return ()
    return (Part(kind, data=dict(item)),)


def _said(item: Mapping[str, object]) -> tuple[Part, ...]:
    """The parts of a message; one that says more than its text, what it cites, how sure the model
    was or which phase of the work it belongs to, is kept whole by the first of them."""
    content = item.get("content")
    pieces = [_mapping(piece) for piece in content] if isinstance(content, list) else []
    text, refusal = "".join(_texts(pieces, "text")), "".join(_texts(pieces, "refusal"))
    more = more_of(item, _OF_MESSAGE) or any(more_of(piece, _OF_PIECE) for piece in pieces)
    whole = dict(item) if more else None
    said = [Part(kind, words) for kind, words in (("text", text), ("refusal", refusal)) if words]
    if whole is None:
        return tuple(said)
    if not said:
        return (Part("message", data=whole),)
    return (Part(said[0].kind, said[0].text, whole), *said[1:])


def _texts(pieces: object, key: str) -> list[str]:
    found = [_text(_mapping(p).get(key)) for p in pieces] if isinstance(pieces, list) else []
    return [text for text in found if text]


def _tool_calls(items: Sequence[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    calls = [item for item in items if item.get("type") in _CALLS]
    return tuple(
        ToolCall(
            _text(call.get("call_id")) or f"call_{number}",
            _text(call.get("name")) or "",
            _arguments(call.get("arguments", call.get("input"))),
        )
        for number, call in enumerate(calls, 1)
    )


def _arguments(given: object) -> str:
    if isinstance(given, str):
        return given
    return "" if given is None else json.dumps(given)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
