"""The embeddings API, as it is recorded: the vectors as they were sent, each a part of the answer.

The fields are those of https://platform.openai.com/docs/api-reference/embeddings/create; the SDK
asks for base64, which is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.errors import InvokeError
from lllm.events.model import Content, Part
from lllm.invokers import Answer, Request
from lllm.invokers.dialects.dialect import Dialect
from lllm.pricing.amounts import billed_of
from lllm.pricing.usage import of_embeddings

API = "embeddings"


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """What the provider's JSON says. Raises InvokeError where it holds no vectors."""
    whole: Mapping[str, object] = body if isinstance(body, dict) else {}
    found = whole.get("data")
    named, raw = whole.get("model"), whole.get("usage")
    if not isinstance(found, list):
        raise InvokeError(
            "The answer has no vectors in it.", retryable=True, request_id=request_id,
            usage=of_embeddings(raw), usage_raw=raw, billed=billed_of(raw),
        )  # fmt: skip
    vectors = [item.get("embedding") for item in found if isinstance(item, dict)]
    return Answer(
        content=Content("assistant", tuple(Part("embedding", data=one) for one in vectors)),
        finish="stop",
        model=named if isinstance(named, str) else model,
        request_id=request_id,
        usage_raw=raw,
        usage=of_embeddings(raw),
        billed=billed_of(raw),
    )


class _Whole:
    """No stream: vectors come at once."""

    begun = False
    complete = False
    settled = False

    def take(self, _: Mapping[str, object]) -> str:
        return ""

    def body(self) -> dict[str, object]:
        return {}


def _payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    raise NotImplementedError(f"no agent asks for vectors: {request!r:.80}, {stream}")


EMBEDDINGS = Dialect(API, _payload, answer, _Whole)
