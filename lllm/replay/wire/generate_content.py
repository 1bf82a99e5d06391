"""Builds a recorded answer as Google's generateContent API sends it, so that it can be read again.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from lllm.events.model import Part, ToolCall
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire.pieces import JSON, named_value, pieces_of

_OF_WHOLE = ("promptFeedback", "createTime", "modelStatus", "automaticFunctionCallingHistory")
# https://cloud.google.com/apis/design/errors#handling_errors
_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL",
    501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def body(answer: Answer) -> JSON:
    """Build an answer that is not streamed.

    Args:
        answer: The recorded answer.

    Returns:
        The JSON of the response body.
    """
    candidate, others, whole = _said(answer)
    refused = "promptFeedback" in whole and not mapping(candidate["content"]).get("parts")
    candidates = [] if refused else [candidate, *others]
    return ({"candidates": candidates} if candidates else {}) | whole | _end(answer)


def events(answer: Answer, *, finished: bool = True) -> Iterator[JSON]:
    """Build a streamed answer.

    Args:
        answer: The recorded answer.
        finished: False for an answer that broke off, which gets no reason why it stopped.

    Yields:
        The JSON of each chunk.
    """
    built = body(answer)
    candidates = [mapping(one) for one in items(built.get("candidates"))]
    pieces: list[JSON] = []
    for part in items(mapping(candidates[0]["content"]).get("parts")) if candidates else []:
        pieces += _grown(dict(mapping(part)))
    for piece in pieces if not finished else pieces[:-1]:
        yield _chunk([piece]) | _end(answer)
    if finished:
        last = {**candidates[0], "content": {"role": "model", "parts": pieces[-1:]}}
        first = [last] if candidates else []
        yield built | ({"candidates": [*first, *candidates[1:]]} if candidates else {})


def error(said: str | None, code: str | None) -> JSON:
    """Build the body of an error.

    Args:
        said: What the provider said; None for nothing.
        code: The provider's code; None for none.
    """
    status = int(code) if code is not None and code.isdecimal() else 503
    told = {"code": status, "message": said or "", "status": _STATUSES.get(status, "UNKNOWN")}
    return {"error": told}


def _chunk(parts: list[JSON]) -> JSON:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]}


def _end(answer: Answer) -> JSON:
    end: JSON = {"modelVersion": answer.model}
    if answer.response_id is not None:
        end["responseId"] = answer.response_id
    return end if answer.usage_raw is None else end | {"usageMetadata": answer.usage_raw}


def _said(answer: Answer) -> tuple[JSON, list[JSON], JSON]:
    """Give the first candidate, the other ones, and the further fields of the answer."""
    parts: list[JSON] = []
    others: list[JSON] = []
    candidate: JSON = {"index": 0}
    whole: JSON = {}
    for part in answer.content.parts:
        data = part.data
        if part.kind == "choice" and isinstance(data, dict):
            others.append(data)
        elif named_value(part.kind, data) and part.kind not in _PARTS:
            named = whole if part.kind in _OF_WHOLE else candidate
            named |= mapping(data)
        else:
            parts.append(_part(part))
    if not any("functionCall" in one for one in parts):
        parts += [_call(call) for call in answer.content.tool_calls]
    content: JSON = {"role": "model", "parts": parts}
    if answer.finish_raw is not None:
        candidate["finishReason"] = answer.finish_raw
    return {"content": content, **candidate}, others, whole


# Parts of a message that Google names by what they hold.
_PARTS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def _part(part: Part) -> JSON:
    if isinstance(part.data, dict):
        return part.data
    thought = {"thought": True} if part.kind == "reasoning" else {}
    return {"text": part.text or "", **thought}


def _call(call: ToolCall) -> JSON:
    named: JSON = {"name": call.name}
    if call.id != call.name:
        named["id"] = call.id
    if call.arguments:
        named["args"] = json.loads(call.arguments)
    return {"functionCall": named}


def _grown(part: JSON) -> list[JSON]:
    """Cut the text of a part into pieces; whatever else the part has comes with the last one."""
    said = part.get("text")
    if not isinstance(said, str) or not said:
        return [part]
    thought = {"thought": True} if part.get("thought") is True else {}
    cut: list[JSON] = [{"text": piece, **thought} for piece in pieces_of(said)]
    return [*cut[:-1], part | cut[-1]]
