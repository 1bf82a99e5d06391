"""Reads answers of the embeddings API: each vector is a part of the answer, as it was sent.

The fields are those of https://platform.openai.com/docs/api-reference/embeddings/create; the SDK
asks for base64, which is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.model import Content, Part
from lllm.invokers import Answer
from lllm.invokers.dialects.answers import answer_without, build_answer, use_of
from lllm.invokers.dialects.dialect import Dialect, no_payload
from lllm.invokers.dialects.provider_json import mapping
from lllm.pricing.usage import of_embeddings

API = "embeddings"


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read the vectors from a provider's JSON.

    Args:
        body: The provider's JSON.
        model: The one asked, for providers that name none.
        request_id: The provider's id of the request.

    Returns:
        An answer of a part of kind "embedding" for each vector.

    Raises:
        InvokeError: It holds no vectors.
    """
    whole = mapping(body)
    use = use_of(whole, of_embeddings)
    found = whole.get("data")
    if not isinstance(found, list):
        raise answer_without("vectors", use, request_id)
    vectors = [item.get("embedding") for item in found if isinstance(item, dict)]
    content = Content("assistant", tuple(Part("embedding", data=one) for one in vectors))
    return build_answer(
        whole, content, use, finish="stop", finish_raw=None, model=model, request_id=request_id
    )


class _Whole:
    """An Assembly that is never used, since embeddings are not streamed."""

    begun = False
    complete = False
    settled = False

    def take(self, _: Mapping[str, object]) -> str:
        """See Assembly."""
        return ""

    def body(self) -> dict[str, object]:
        """See Assembly."""
        return {}


EMBEDDINGS = Dialect(API, no_payload, answer, _Whole)
