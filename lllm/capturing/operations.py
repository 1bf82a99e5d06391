"""The API calls that are recorded, by the end of their path, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from lllm.capturing import asked
from lllm.capturing.asked import Asked
from lllm.capturing.embeddings import EMBEDDINGS
from lllm.invokers.assembling import Dialect
from lllm.invokers.dialects import CHAT, MESSAGES, RESPONSES


class Operation(msgspec.Struct, frozen=True):
    """One kind of API call. name: as llm.requested says it. reads: makes our terms of the body."""

    name: str
    dialect: Dialect
    reads: Callable[[Mapping[str, object]], Asked]


_BY_PATH = {
    "/chat/completions": Operation("chat", CHAT, asked.of_chat),
    "/responses": Operation("responses", RESPONSES, asked.of_responses),
    "/v1/messages": Operation("chat", MESSAGES, asked.of_messages),
    "/embeddings": Operation("embeddings", EMBEDDINGS, asked.of_embeddings),
}


def operation_of(method: str, path: str) -> Operation | None:
    """What an SDK is about to call; None for what is not recorded (files, batches, models, ...).

    path: as the SDK names it, relative to its base URL.
    """
    if method.lower() != "post":
        return None
    plain = "/" + path.partition("?")[0].strip("/")
    return next((found for end, found in _BY_PATH.items() if plain.endswith(end)), None)
