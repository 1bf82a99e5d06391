"""Builds a recorded answer as OpenAI's Responses API sends it, so that it can be read again.

https://platform.openai.com/docs/api-reference/responses/object and, for streams,
https://platform.openai.com/docs/api-reference/responses-streaming. The log has no ids for
items that are only a text or a function call, so these items get new ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lllm.events.model import Part
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire.pieces import JSON, named_value, pieces_of

_CALLS = ("function_call", "custom_tool_call")
_STATUSES = ("completed", "incomplete", "in_progress", "queued")
# The fields of the request that a response repeats.
_ECHOED = (
    "instructions", "metadata", "background", "max_output_tokens", "max_tool_calls",
    "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "store",
    "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
)  # fmt: skip
_DEFAULTS: JSON = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


def body(answer: Answer, *, created: int, asked: Mapping[str, object]) -> JSON:
    """Build an answer that is not streamed.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.
        asked: The JSON body of the request, some fields of which the answer repeats.

    Returns:
        The JSON of the response body.
    """
    output, more = _said(answer)
    built = _head(answer, created, asked) | {"output": output} | more
    return built if answer.usage_raw is None else built | {"usage": answer.usage_raw}


def failed(message: str, code: str | None, *, created: int, asked: Mapping[str, object]) -> JSON:
    """Build a response with the status "failed", which an SDK returns without raising an error.

    Args:
        message: The provider's description of the error.
        code: The provider's code for the error; None means "server_error".
        created: The time of the failure in seconds UTC since 1970.
        asked: The JSON body of the request, whose model the response repeats.

    Returns:
        The JSON of the response body.
    """
    built = {"id": "", "object": "response", "created_at": created, "model": asked.get("model")}
    error = {"code": code or "server_error", "message": message}
    return built | {"status": "failed", "error": error, "output": []}


def events(
    answer: Answer, *, created: int, asked: Mapping[str, object], finished: bool = True
) -> Iterator[JSON]:
    """Build a streamed answer.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.
        asked: The JSON body of the request, some fields of which the answer repeats.
        finished: False for an answer that broke off, which gets no final event.

    Yields:
        The JSON of each event, with its `type`.
    """
    whole = body(answer, created=created, asked=asked)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    begun["incomplete_details"] = None
    for number, event in enumerate(_events(whole, begun, finished=finished)):
        yield event | {"sequence_number": number}


def _events(whole: JSON, begun: JSON, *, finished: bool) -> Iterator[JSON]:
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(items(whole["output"])):
        yield from _item_events(dict(mapping(item)), index)
    if finished:
        last = "incomplete" if whole["status"] == "incomplete" else "completed"
        yield {"type": f"response.{last}", "response": whole}


def _head(answer: Answer, created: int, asked: Mapping[str, object]) -> JSON:
    said = answer.finish_raw
    status = said if said in _STATUSES else "incomplete" if said else "completed"
    head: JSON = {
        "id": answer.response_id or "",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": None if said in _STATUSES or not said else {"reason": said},
        "model": answer.model,
    }
    if answer.service_tier is not None:
        head["service_tier"] = answer.service_tier
    return head | _DEFAULTS | {name: asked[name] for name in _ECHOED if name in asked}


def _said(answer: Answer) -> tuple[list[JSON], JSON]:
    """Give the items of the output, and the further fields of the response."""
    output: list[JSON] = []
    more: JSON = {}
    plain: JSON | None = None  # the message built for the last part; None if it was kept whole
    kept: list[Part] = []  # the part with the last message that was kept whole
    after_refusal = False
    for part in answer.content.parts:
        if named_value(part.kind, part.data):
            more |= mapping(part.data)
        elif isinstance(part.data, dict):
            output.append(part.data)
            plain, kept = None, [part]
        elif part.kind == "refusal" and kept and _refuses(mapping(kept[0].data)):
            kept = []
        elif part.kind in ("text", "refusal"):
            if plain is None or part.kind == "text" or after_refusal:
                plain = _message(f"msg_{answer.response_id or 'replay'}_{len(output)}")
                output.append(plain)
            items(plain["content"]).append(_piece(part))
            kept, after_refusal = [], part.kind == "refusal"
        else:
            output.append(_reasoning(part, f"rs_{answer.response_id or 'replay'}_{len(output)}"))
            plain, kept = None, []
    if not any(item.get("type") in _CALLS for item in output):
        output += [
            {
                "id": f"fc_{call.id}",
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "status": "completed",
            }
            for call in answer.content.tool_calls
        ]
    return output, more


def _refuses(message: Mapping[str, object]) -> bool:
    pieces = [mapping(piece) for piece in items(message.get("content"))]
    return any(piece.get("text") for piece in pieces) and any(
        piece.get("refusal") for piece in pieces
    )


def _message(identity: str) -> JSON:
    said: list[object] = []
    kind = {"id": identity, "type": "message", "role": "assistant", "status": "completed"}
    return kind | {"content": said}


def _piece(part: Part) -> JSON:
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": part.text or ""}
    return {"type": "output_text", "text": part.text or "", "annotations": []}


def _reasoning(part: Part, identity: str) -> JSON:
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {"id": identity, "type": "reasoning", "summary": summary}


# -- streams

# For each kind of item that is a call: the field with its input, and the prefix of the events that
# stream the field.
_INPUTS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}


def _item_events(item: JSON, index: int) -> Iterator[JSON]:
    kind = str(item.get("type"))
    where: JSON = {"output_index": index}
    of_item = where | {"item_id": item.get("id")}
    begun = dict(item)
    if "status" in item:
        begun["status"] = "in_progress"
    growing: list[JSON] = []
    if kind == "message":
        begun["content"] = []
        for place, piece in enumerate(items(item.get("content"))):
            growing += _message_piece(dict(mapping(piece)), of_item | {"content_index": place})
    elif kind == "reasoning":
        begun["summary"] = []
        for place, piece in enumerate(items(item.get("summary"))):
            growing += _summary_piece(dict(mapping(piece)), of_item | {"summary_index": place})
    elif kind in _INPUTS and isinstance(item.get(_INPUTS[kind][0]), str):
        field, name = _INPUTS[kind]
        said = str(item[field])
        begun[field] = ""
        growing = [of_item | {"type": f"{name}.delta", "delta": one} for one in pieces_of(said)]
        growing.append(of_item | {"type": f"{name}.done", field: said, "name": item.get("name")})
    yield where | {"type": "response.output_item.added", "item": begun}
    yield from growing
    yield where | {"type": "response.output_item.done", "item": item}


def _message_piece(piece: JSON, where: JSON) -> Iterator[JSON]:
    kind = "refusal" if piece.get("type") == "refusal" else "text"
    said = str(piece.get(kind) or "")
    name = "response.refusal" if kind == "refusal" else "response.output_text"
    more: JSON = {} if kind == "refusal" else {"logprobs": []}
    begun = piece | {kind: ""} | ({} if kind == "refusal" else {"annotations": []})
    yield where | {"type": "response.content_part.added", "part": begun}
    for one in pieces_of(said):
        yield where | {"type": f"{name}.delta", "delta": one} | more
    yield where | {"type": f"{name}.done", kind: said} | more
    yield where | {"type": "response.content_part.done", "part": piece}


def _summary_piece(piece: JSON, where: JSON) -> Iterator[JSON]:
    said = str(piece.get("text") or "")
    name = "response.reasoning_summary_text"
    yield where | {
        "type": "response.reasoning_summary_part.added",
        "part": piece | {"text": ""},
    }
    for one in pieces_of(said):
        yield where | {"type": f"{name}.delta", "delta": one}
    yield where | {"type": f"{name}.done", "text": said}
    yield where | {"type": "response.reasoning_summary_part.done", "part": piece}
