"""The dialect of OpenAI's Responses API: writes a Request as JSON, and reads an Answer.

A conversation is a list of items. A reasoning model needs its items back unchanged and in order
while tools are in use (https://platform.openai.com/docs/guides/reasoning). So an item that has more
than lllm's types can express is kept whole as the `data` of a part, and is sent again. Nothing here
uses the network. The fields are documented at
https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.answers import answer_without, build_answer, use_of
from lllm.invokers.dialects.dialect import (
    data_of,
    more_of,
    not_carried,
    refuse_params,
    schema_name,
)
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text
from lllm.invokers.http.errors import from_event, with_use
from lllm.pricing.usage import of_responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Item = dict[str, object]

# Params that a Request has its own fields for, or that would delay the answer beyond the call.
_NOT_PARAMS = ("model", "input", "tools", "stream", "background")
# The fields of a response that are read here, or that repeat the request:
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
    """Make the body of the HTTP request.

    Params are passed on unchanged. A `text` param gets the format for `output_schema`, unless it
    has one. `store` is not set here.

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
    body: dict[str, object] = {
        "model": request.model,
        "input": [item for content in request.messages for item in _items(content)],
    }
    body.update(request.params)
    if (schema := request.output_schema) is not None:
        form = {"type": "json_schema", "name": schema_name(schema), "schema": schema}
        body["text"] = {"format": form} | dict(mapping(request.params.get("text")))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)  # refused by servers if the answer is not streamed
    return body


def _tool(tool: ToolDefinition) -> Item:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        # This API is strict by default, and refuses a schema that does not follow its strict rules:
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
        items.pop()  # a reasoning item without its result, which the API refuses
    return items


def _input(part: Part) -> Item:
    if part.kind == "text":
        return {"type": "input_text", "text": part.text or ""}
    if isinstance(part.data, dict):
        return part.data  # already in the provider's form
    data = data_of(part)
    if isinstance(data, str) and part.kind in ("image", "file"):
        mime = part.mime or ("image/png" if part.kind == "image" else "application/pdf")
        is_address = data.startswith(("http://", "https://"))
        url = data if is_address or data.startswith("data:") else f"data:{mime};base64,{data}"
        if part.kind == "image":
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        if is_address:
            return {"type": "input_file", "file_url": url}
        # the API finds the kind of a file by its name
        name = part.text or f"file.{mime.rpartition('/')[2]}"
        return {"type": "input_file", "filename": name, "file_data": url}
    raise not_carried(part, "Responses")


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read an Answer from a provider's JSON.

    Items without a type in lllm, such as those of tools that the provider runs, become parts of
    their own kind, with the whole item as data.

    Args:
        body: The provider's answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The response failed, or the body is not a response. The error has the usage,
            because it is billed.
    """
    whole = mapping(body)
    use = use_of(whole, of_responses)
    output, status = whole.get("output"), text(whole.get("status"))
    if status in ("failed", "cancelled"):
        failed = from_event(whole.get("error") or {"message": f"The response was {status}."})
        failed.request_id = request_id
        raise with_use(failed, use)
    if not isinstance(output, list):
        raise answer_without("output", use, request_id)
    said = [mapping(item) for item in output]
    parts = (*_parts(said), *more_of(whole, _OF_ANSWER))
    finish_raw = text(mapping(whole.get("incomplete_details")).get("reason")) or status
    return build_answer(
        whole,
        Content("assistant", parts, _tool_calls(said)),
        use,
        finish=_FINISH.get(finish_raw, "other"),
        finish_raw=finish_raw,
        model=model,
        request_id=request_id,
    )


def _parts(output: Sequence[Mapping[str, object]]) -> tuple[Part, ...]:
    whole = _must_stay_whole(output)
    return tuple(part for item in output for part in _parts_of(item, whole))


def _must_stay_whole(output: Sequence[Mapping[str, object]]) -> bool:
    """True if tool calls have more fields than a ToolCall.

    These are their owner, or the call's place among other items if it was not the last.
    """
    kinds = [item.get("type") for item in output]
    calls = [item for item in output if item.get("type") in _CALLS]
    if calls and any(kind not in _CALLS for kind in kinds[output.index(calls[0]) :]):
        return True
    return any(
        call["type"] != "function_call" or call.get("namespace") or call.get("caller")
        for call in calls
    )


def _parts_of(item: Mapping[str, object], whole: bool) -> tuple[Part, ...]:
    kind = text(item.get("type")) or "unknown"
    if kind == "message":
        return _message_parts(item)
    if kind == "reasoning":
        thoughts = _texts(item.get("summary"), "text") or _texts(item.get("content"), "text")
        return (Part("reasoning", "\n\n".join(thoughts) or None, dict(item)),)
    if kind in _CALLS and not whole:
        return ()
    return (Part(kind, data=dict(item)),)


def _message_parts(item: Mapping[str, object]) -> tuple[Part, ...]:
    """Read the parts of a message.

    A message that has more than text (citations, log probabilities, the phase of the work) is kept
    whole by its first part.
    """
    pieces = [mapping(piece) for piece in items(item.get("content"))]
    words, refusal = "".join(_texts(pieces, "text")), "".join(_texts(pieces, "refusal"))
    more = more_of(item, _OF_MESSAGE) or any(more_of(piece, _OF_PIECE) for piece in pieces)
    whole = dict(item) if more else None
    said = [Part(kind, one) for kind, one in (("text", words), ("refusal", refusal)) if one]
    if whole is None:
        return tuple(said)
    if not said:
        return (Part("message", data=whole),)
    return (Part(said[0].kind, said[0].text, whole), *said[1:])


def _texts(pieces: object, key: str) -> list[str]:
    found = (text(mapping(piece).get(key)) for piece in items(pieces))
    return [one for one in found if one]


def _tool_calls(output: Sequence[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    calls = [item for item in output if item.get("type") in _CALLS]
    return tuple(
        ToolCall(
            text(call.get("call_id")) or f"call_{number}",
            text(call.get("name")) or "",
            arguments_text(call.get("arguments", call.get("input"))),
        )
        for number, call in enumerate(calls, 1)
    )
