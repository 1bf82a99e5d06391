"""The API calls that are recorded, found by the end of their URL path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from lllm.instrumentation import request_bodies
from lllm.instrumentation.embeddings import EMBEDDINGS
from lllm.instrumentation.legacy_completions import COMPLETIONS
from lllm.instrumentation.request_bodies import CapturedRequest, ConversationForm
from lllm.invokers.dialects.catalog import CHAT, MESSAGES, RESPONSES
from lllm.invokers.dialects.dialect import Dialect


class Operation(msgspec.Struct, frozen=True):
    """A kind of API call, and how its requests and answers are read.

    Attributes:
        name: As llm.requested says it.
        dialect: Of its body and its answer.
        reads: Reads a whole body in our terms.
        form: Where the body has a conversation, None for one that is no conversation.
    """

    name: str
    dialect: Dialect
    reads: Callable[[Mapping[str, object]], CapturedRequest]
    form: ConversationForm | None = None


def _conversation(name: str, dialect: Dialect, form: ConversationForm) -> Operation:
    return Operation(name, dialect, form.read, form)


_BY_PATH = {
    "/chat/completions": _conversation("chat", CHAT, request_bodies.CHAT),
    "/completions": Operation("completion", COMPLETIONS, request_bodies.of_completions),
    "/responses/compact": _conversation("compact", RESPONSES, request_bodies.RESPONSES),
    "/responses": _conversation("responses", RESPONSES, request_bodies.RESPONSES),
    "/v1/messages": _conversation("chat", MESSAGES, request_bodies.MESSAGES),
    "/embeddings": Operation("embeddings", EMBEDDINGS, request_bodies.of_embeddings),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Find the kind of API call that an SDK is about to make.

    Args:
        method: Of HTTP.
        path: As the SDK names it, relative to its base URL.

    Returns:
        The operation; None for what is not recorded (files, batches, images, ...).
    """
    if method.lower() != "post":
        return None
    plain = "/" + path.partition("?")[0].strip("/")
    return next((found for end, found in _BY_PATH.items() if plain.endswith(end)), None)


# What runs no model, though it is posted: it keeps things, counts tokens, or ends what runs.
_NO_MODEL = re.compile(
    r"/(files|uploads|vector_stores|conversations|containers|skills|organization|projects|models"
    r"|assistants|chatkit|webhooks)(/|$)"
    r"|/(count_tokens|input_tokens|cancel|pause|resume)$"
    r"|^/threads(/[^/]+)?(/messages(/[^/]+)?)?$"
    r"|/chat/completions/[^/]+$"
)


def unrecorded(method: str, path: str) -> str | None:
    """Find out if a call that is not recorded may run a model.

    Images, audio, moderations, reranking, batches and whatever else is posted may.

    Args:
        method: Of HTTP.
        path: As the SDK names it, relative to its base URL.

    Returns:
        The path, to be told; None where no model runs, or the call is recorded.
    """
    plain = "/" + path.partition("?")[0].strip("/")
    if method.lower() != "post" or operation_of(method, path) is not None:
        return None
    return None if _NO_MODEL.search(plain) else plain
