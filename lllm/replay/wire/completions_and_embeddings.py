"""Recorded answers of the older completions API and of the embeddings API, as they are sent.

https://platform.openai.com/docs/api-reference/completions and
https://platform.openai.com/docs/api-reference/embeddings. A completion is read by the names of
Chat Completions, and so it is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire import chat_completions
from lllm.replay.wire.pieces import JSON


def completion(answer: Answer, *, created: int) -> JSON:
    """Build a completion that came in one piece.

    Args:
        answer: What was recorded.
        created: When, seconds UTC.

    Returns:
        The JSON.
    """
    return _as_completion(chat_completions.body(answer, created=created), "message")


def completion_events(answer: Answer, *, created: int, finished: bool = True) -> Iterator[JSON]:
    """Build a completion as the events of a stream.

    Args:
        answer: What was recorded.
        created: When, seconds UTC.
        finished: False for one that broke off.

    Yields:
        The JSON of each `data`; the end mark is not among them.
    """
    for event in chat_completions.events(answer, created=created, finished=finished):
        yield _as_completion(event, "delta")


def _as_completion(whole: JSON, said: str) -> JSON:
    choices = [_choice(dict(mapping(one)), said) for one in items(whole.get("choices"))]
    return whole | {"object": "text_completion", "choices": choices}


def _choice(choice: JSON, said: str) -> JSON:
    message = mapping(choice.pop(said, None))
    return choice | {"text": message.get("content") or "", "logprobs": choice.get("logprobs")}


def embeddings(answer: Answer) -> JSON:
    """Build the vectors, as the provider sent them.

    Args:
        answer: What was recorded.

    Returns:
        The JSON.
    """
    vectors = [part.data for part in answer.content.parts if part.kind == "embedding"]
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    built: JSON = {"object": "list", "data": data, "model": answer.model}
    return built if answer.usage_raw is None else built | {"usage": answer.usage_raw}
