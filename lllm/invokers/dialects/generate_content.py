"""The dialect of Google's generateContent API: reads its messages and answers.

Agents don't ask in this dialect; captured clients of google-genai do, on the Gemini API and on
Vertex. A part of a message that has more than lllm's types can express, such as the signature of a
thought, is kept whole as the `data` of a part. Nothing here uses the network. The fields are
documented at https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lllm.events.model import Content, Part, ToolCall
from lllm.invokers import Answer, Finish
from lllm.invokers.dialects.answers import answer_without, build_answer, use_of
from lllm.invokers.dialects.dialect import more_of
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text
from lllm.pricing.usage import of_generate_content

# https://ai.google.dev/api/generate-content#FinishReason
_FINISH: dict[object, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
_OF_ANSWER = ("candidates", "usageMetadata", "modelVersion", "responseId")
_OF_CANDIDATE = ("content", "finishReason", "index")


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read an Answer from Google's JSON.

    Candidates after the first are parts of kind "choice". A refused prompt has no candidate: its
    answer finishes as "content_filter", and `promptFeedback` is a part.

    Args:
        body: The answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The body has no candidate; a retry may help. The error has the usage.
    """
    whole = mapping(body)
    head = {
        "id": whole.get("responseId"),
        "model": whole.get("modelVersion"),
        "usage": whole.get("usageMetadata"),
    }
    use = use_of(head, of_generate_content)
    candidates = [mapping(one) for one in items(whole.get("candidates"))]
    refused = text(mapping(whole.get("promptFeedback")).get("blockReason"))
    if not candidates and refused is None:
        raise answer_without("candidate", use, request_id)
    first = candidates[0] if candidates else {}
    said = items(mapping(first.get("content")).get("parts"))
    finish_raw = text(first.get("finishReason")) if candidates else refused
    finish = _FINISH.get(finish_raw, "other") if candidates else "content_filter"
    parts, calls = said_by_model([mapping(one) for one in said])
    others = tuple(Part("choice", data=dict(one)) for one in candidates[1:])
    more = (*more_of(first, _OF_CANDIDATE), *more_of(whole, _OF_ANSWER))
    return build_answer(
        head,
        Content("assistant", (*parts, *others, *more), calls),
        use,
        finish=finish,
        finish_raw=finish_raw,
        model=model,
        request_id=request_id,
    )


def said_by_model(
    pieces: Sequence[Mapping[str, object]],
) -> tuple[tuple[Part, ...], tuple[ToolCall, ...]]:
    """Read the parts of a model's message, and the function calls among them.

    If a call has more than its name and arguments, such as the signature of a thought, or if
    something follows it, all calls are parts of kind "function_call", too.

    Args:
        pieces: The parts in Google's form.

    Returns:
        The parts, and the calls.
    """
    wishes = [one for one in pieces if "functionCall" in one]
    kinds = ["functionCall" in one for one in pieces]
    last = not wishes or all(kinds[kinds.index(True) :])
    whole = not last or any(_has_more(one) for one in wishes)
    parts = tuple(part_of(one) for one in pieces if whole or "functionCall" not in one)
    return parts, tuple(_call(mapping(one["functionCall"])) for one in wishes)


def _has_more(piece: Mapping[str, object]) -> bool:
    known = {"id", "name", "args"}
    return len(piece) > 1 or bool(mapping(piece["functionCall"]).keys() - known)


def _call(call: Mapping[str, object]) -> ToolCall:
    """Read a function call; the Gemini API may name it without an id."""
    name = text(call.get("name")) or ""
    return ToolCall(text(call.get("id")) or name, name, arguments_text(call.get("args")))


def part_of(piece: Mapping[str, object]) -> Part:
    """Read one part of a message.

    Args:
        piece: The part in Google's form.

    Returns:
        The part in lllm's terms.
    """
    said = text(piece.get("text"))
    if said is not None:
        kind = "reasoning" if piece.get("thought") is True else "text"
        plain = piece.keys() <= {"text", "thought"}
        return Part(kind, said, data=None if plain else dict(piece))
    if "functionCall" in piece:
        return Part("function_call", data=dict(piece))
    for name in ("inlineData", "fileData"):
        if name in piece:
            mime = text(mapping(piece[name]).get("mimeType")) or ""
            media = mime.partition("/")[0]
            kind = media if media in ("image", "audio", "video") else "file"
            return Part(kind, data=dict(piece))
    kind = next((name for name in piece if name not in ("thought", "thoughtSignature")), "other")
    return Part(kind, data=dict(piece))
