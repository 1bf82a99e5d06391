"""Builds recorded answers as the older completions API and the embeddings API send them.

https://platform.openai.com/docs/api-reference/completions and
https://platform.openai.com/docs/api-reference/embeddings. A completion is read under the names
of Chat Completions, so it is built there first and then renamed.
"""

from __future__ import annotations

from collections.abc import Iterator

from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.replay.wire import chat_completions
from lllm.replay.wire.pieces import JSON


def completion(answer: Answer, *, created: int) -> JSON:
    """Build a completion that is not streamed.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.

    Returns:
        The JSON of the response body.
    """
    return _as_completion(chat_completions.body(answer, created=created), "message")


def completion_events(answer: Answer, *, created: int, finished: bool = True) -> Iterator[JSON]:
    """Build a streamed completion.

    Args:
        answer: The recorded answer.
        created: The time of the answer in seconds UTC since 1970.
        finished: False for a completion that broke off, which gets no finish reason.

    Yields:
        The JSON of each `data` line, without the end mark `[DONE]`.
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
    """Build an answer of the embeddings API.

    Args:
        answer: The recorded answer, whose parts have the vectors.

    Returns:
        The JSON of the response body, with each vector as the provider sent it.
    """
    vectors = [part.data for part in answer.content.parts if part.kind == "embedding"]
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    built: JSON = {"object": "list", "data": data, "model": answer.model}
    return built if answer.usage_raw is None else built | {"usage": answer.usage_raw}
