"""Reads answers of the embeddings API; each vector becomes a part of the answer, as it was sent.

The fields are documented at https://platform.openai.com/docs/api-reference/embeddings/create. The
SDK requests base64, which is kept as it is.
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
        body: The provider's answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        An answer with one part of kind "embedding" for each vector.

    Raises:
        InvokeError: The body has no vectors.
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
    """An Assembly that does nothing, because embeddings are not streamed."""

    begun = False
    complete = False
    settled = False

    def take(self, _: Mapping[str, object]) -> str:
        """Ignore an event; see Assembly."""
        return ""

    def body(self) -> dict[str, object]:
        """Return an empty body; see Assembly."""
        return {}


EMBEDDINGS = Dialect(API, no_payload, answer, _Whole)
