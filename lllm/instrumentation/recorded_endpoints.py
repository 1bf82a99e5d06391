"""Lists the API calls that are recorded, by the end of their URL path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from lllm.instrumentation import generate_content_bodies, request_bodies
from lllm.instrumentation.embeddings import EMBEDDINGS
from lllm.instrumentation.legacy_completions import COMPLETIONS
from lllm.instrumentation.request_bodies import CapturedRequest, ConversationForm
from lllm.invokers.dialects.catalog import CHAT, GENERATE_CONTENT, MESSAGES, RESPONSES
from lllm.invokers.dialects.dialect import Dialect


class Operation(msgspec.Struct, frozen=True):
    """A kind of API call, and how its requests and answers are read.

    Attributes:
        name: The name of the operation in an llm.requested event.
        dialect: The format of its request and answer.
        reads: A function that converts a decoded body to lllm's types.
        form: The place of the conversation in the body; None if there is none.
    """

    name: str
    dialect: Dialect
    reads: Callable[[Mapping[str, object]], CapturedRequest]
    form: ConversationForm | None = None


def _conversation(name: str, dialect: Dialect, form: ConversationForm) -> Operation:
    return Operation(name, dialect, form.read, form)


_GOOGLES = _conversation("chat", GENERATE_CONTENT, generate_content_bodies.FORM)
_BY_PATH = {
    "/chat/completions": _conversation("chat", CHAT, request_bodies.CHAT),
    "/completions": Operation("completion", COMPLETIONS, request_bodies.of_completions),
    "/responses/compact": _conversation("compact", RESPONSES, request_bodies.RESPONSES),
    "/responses": _conversation("responses", RESPONSES, request_bodies.RESPONSES),
    "/v1/messages": _conversation("chat", MESSAGES, request_bodies.MESSAGES),
    ":generateContent": _GOOGLES,
    ":streamGenerateContent": _GOOGLES,
    "/embeddings": Operation("embeddings", EMBEDDINGS, request_bodies.of_embeddings),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Find the kind of API call that an SDK is about to make.

    Args:
        method: The HTTP method.
        path: The path that the SDK is about to call, relative to its base URL.

    Returns:
        The operation; None for calls that are not recorded, such as files, batches or images.
    """
    if method.lower() != "post":
        return None
    plain = "/" + path.partition("?")[0].strip("/")
    return next((found for end, found in _BY_PATH.items() if plain.endswith(end)), None)


# POST requests that run no model: they store data, count tokens, or stop a running job.
_NO_MODEL = re.compile(
    r"/(files|uploads|vector_stores|conversations|containers|skills|organization|assistants"
    r"|chatkit|webhooks)(/|$)|/(projects|models)(/[^:]*)?$"
    r"|/(count_tokens|input_tokens|cancel|pause|resume)$"
    r"|^/threads(/[^/]+)?(/messages(/[^/]+)?)?$"
    r"|/chat/completions/[^/]+$"
    r"|/(auth_tokens|cachedContents|fileSearchStores|tunedModels|tuningJobs)$"
    r"|:(countTokens|computeTokens|cancel|register)$"
)


def unrecorded(method: str, path: str) -> str | None:
    """Find out if a call that is not recorded may run a model.

    Any other POST request may: images, audio, moderations, reranking, batches.

    Args:
        method: The HTTP method.
        path: The path that the SDK is about to call, relative to its base URL.

    Returns:
        The path to name in a warning; None if no model runs, or the call is recorded.
    """
    plain = "/" + path.partition("?")[0].strip("/")
    if method.lower() != "post" or operation_of(method, path) is not None:
        return None
    return None if _NO_MODEL.search(plain) else plain
