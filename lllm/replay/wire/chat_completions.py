"""Builds a recorded answer as Chat Completions sends it, so that the dialect can read it again.

https://platform.openai.com/docs/api-reference/chat/object and, for streams,
https://platform.openai.com/docs/api-reference/chat-streaming. Reasoning is sent as
`reasoning_content`, whatever name the provider uses for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lllm.events.model import Part, ToolCall
from lllm.invokers import Answer
from lllm.invokers.dialects.chat_completions import text_of
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire.pieces import JSON, named_value, pieces_of

_MESSAGE, _CHOICE, _WHOLE = range(3)
# The level at which providers other than OpenAI put their own fields: the message, the choice or
# the whole answer.
_LEVELS = {
    "logprobs": _CHOICE, "content_filter_results": _CHOICE, "native_finish_reason": _CHOICE,
    "stop_reason": _CHOICE, "token_ids": _CHOICE, "provider": _WHOLE, "citations": _WHOLE,
    "search_results": _WHOLE, "prompt_filter_results": _WHOLE, "prompt_logprobs": _WHOLE,
    "timings": _WHOLE,
}  # fmt: skip
_FIELDS = {"reasoning": "reasoning_content", "text": "content", "refusal": "refusal"}


def body(answer: Answer, *, created: int) -> JSON:
    """Build an answer that is not streamed.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.

    Returns:
        The JSON of the response body.
    """
    message, choice, whole, others = _said(answer.content.parts)
    text = message.pop("content", None)
    message = {"role": "assistant", "content": text} | message
    message |= _calls(answer.content.tool_calls, answer.finish_raw)
    first: JSON = {"index": 0, "message": message, "finish_reason": answer.finish_raw}
    head = _head(answer, "chat.completion", created)
    built = head | {"choices": [first | choice, *others]} | whole
    return built if answer.usage_raw is None else built | {"usage": answer.usage_raw}


def events(answer: Answer, *, created: int, finished: bool = True) -> Iterator[JSON]:
    """Build a streamed answer.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.
        finished: False for an answer that broke off, which gets no last chunk with a finish reason.

    Yields:
        The JSON of each `data` line, without the end mark `[DONE]`.
    """
    message, choice, whole, others = _said(answer.content.parts)
    head = _head(answer, "chat.completion.chunk", created) | whole

    def chunk(delta: object, finish: str | None = None, **more: object) -> JSON:
        first = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return head | {"choices": [first | more]}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for name in _FIELDS.values():
        said = message.pop(name, None)
        listed = items(said)
        texts = [text_of([one]) for one in listed if _is_text(one)] if listed else [said]
        for piece in pieces_of("".join(one for one in texts if isinstance(one, str))):
            yield chunk({name: piece})
        if rest := [one for one in listed if not _is_text(one)]:
            yield chunk({name: rest})
    for delta in _call_deltas(answer.content.tool_calls, answer.finish_raw):
        yield chunk(delta)
    if message:
        yield chunk(message)
    for other in others:
        yield head | {"choices": [_other_chunk(other)]}
    if finished:
        yield chunk({}, answer.finish_raw, **choice)
    if answer.usage_raw is not None:
        yield head | {"choices": [], "usage": answer.usage_raw}


def _head(answer: Answer, kind: str, created: int) -> JSON:
    head: JSON = {"id": answer.response_id or "", "object": kind, "created": created}
    head["model"] = answer.model
    if answer.service_tier is not None:
        head["service_tier"] = answer.service_tier
    if answer.fingerprint is not None:
        head["system_fingerprint"] = answer.fingerprint
    return head


def _said(parts: Sequence[Part]) -> tuple[JSON, JSON, JSON, list[JSON]]:
    """Sort parts into fields of the message, the choice and the body, and into further choices."""
    levels: tuple[JSON, JSON, JSON] = ({}, {}, {})
    message = levels[_MESSAGE]
    others: list[JSON] = []
    pieces: list[object] = []
    level = _MESSAGE
    for part in parts:
        data = part.data
        if part.kind == "choice" and isinstance(data, dict) and "message" in data:
            others.append(data)
            level = _WHOLE
        elif part.kind == "audio" and isinstance(data, dict):
            message["audio"] = data
        elif named_value(part.kind, data):
            # The order shows the level: fields of the message come first, those of the body last.
            level = max(level, _LEVELS.get(part.kind, level))
            while part.kind in levels[level] and level < _WHOLE:
                level += 1
            levels[level].update(mapping(data))
        elif isinstance(data, dict):
            pieces.append(data)
        elif part.kind in _FIELDS:
            message[_FIELDS[part.kind]] = part.text
    if pieces:
        own = str(message.get("content") or "").removesuffix(text_of(pieces))
        text = [{"type": "text", "text": own}] if own else []
        message["content"] = [*text, *pieces]
    return *levels, others


def _is_text(piece: object) -> bool:
    return mapping(piece).keys() == {"type", "text"}


def _calls(calls: Sequence[ToolCall], finish: str | None) -> JSON:
    if not calls:
        return {}
    if _is_older(calls, finish):
        return {"function_call": {"name": calls[0].name, "arguments": calls[0].arguments}}
    return {
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    }


def _is_older(calls: Sequence[ToolCall], finish: str | None) -> bool:
    """True if the answer has the older `function_call`, which has no id of its own."""
    return finish == "function_call" and len(calls) == 1 and calls[0].id == calls[0].name


def _call_deltas(calls: Sequence[ToolCall], finish: str | None) -> Iterator[JSON]:
    if calls and _is_older(calls, finish):
        yield {"function_call": {"name": calls[0].name, "arguments": ""}}
        for piece in pieces_of(calls[0].arguments):
            yield {"function_call": {"arguments": piece}}
        return
    for index, call in enumerate(calls):
        begun = {"name": call.name, "arguments": ""}
        yield {
            "tool_calls": [{"index": index, "id": call.id, "type": "function", "function": begun}]
        }
        for piece in pieces_of(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _other_chunk(choice: Mapping[str, object]) -> JSON:
    message = dict(mapping(choice.get("message")))
    calls = [
        {"index": index} | dict(mapping(call))
        for index, call in enumerate(items(message.get("tool_calls")))
    ]
    if calls:
        message["tool_calls"] = calls
    rest = {name: value for name, value in choice.items() if name != "message"}
    return rest | {"delta": message}
