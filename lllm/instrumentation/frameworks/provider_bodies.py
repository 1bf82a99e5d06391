"""Reads the body of a provider's answer that a framework has kept, by the body's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from lllm.events.errors import InvokeError
from lllm.instrumentation import legacy_completions
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions, generate_content, messages, responses
from lllm.invokers.dialects.provider_json import items, mapping


def answer_in(body: Mapping[str, object], model: str) -> Answer | None:
    """Read an answer from the JSON that a provider sent.

    Args:
        body: The body, decoded from JSON.
        model: The requested model, used if the answer names none.

    Returns:
        The answer in lllm's terms; None if the form of the body is not known.
    """
    reader = _reader_of(body)
    if reader is not None:
        with suppress(InvokeError):
            return reader(body, model=model, request_id=None)
    return None


def _reader_of(body: Mapping[str, object]) -> Callable[..., Answer] | None:
    first = mapping(next(iter(items(body.get("choices"))), None))
    if "message" in first:
        return chat_completions.answer
    if body.get("object") == "text_completion":
        return legacy_completions.answer
    if body.get("object") == "response":
        return responses.answer
    if body.get("type") == "message":
        return messages.answer
    return generate_content.answer if "candidates" in body else None
