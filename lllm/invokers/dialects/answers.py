"""Builds an Answer from a provider's JSON, for all dialects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lllm.events.errors import InvokeError
from lllm.events.model import Content, Usage
from lllm.invokers import Answer, Finish
from lllm.invokers.dialects.provider_json import text
from lllm.invokers.http.errors import with_use
from lllm.pricing.provider_bill import billed_in_usage


class Use(NamedTuple):
    """The usage and other billing facts in the body of an answer.

    Attributes:
        usage_raw: The usage as the provider sent it.
        usage: The usage in lllm's terms; None if it can't be read.
        billed: The cost that the provider sent, in nano-dollars; None if it sent none.
        service_tier: The service tier by the provider's name for it; None if it sent none.
        model: The model that answered; None if the provider named none.
    """

    usage_raw: object
    usage: Usage | None
    billed: int | None
    service_tier: str | None
    model: str | None


def use_of(whole: Mapping[str, object], read: Callable[[object], Usage | None]) -> Use:
    """Read the usage and other billing facts from the body of an answer.

    Args:
        whole: The body, decoded from JSON.
        read: The dialect's function that reads a usage.

    Returns:
        The usage and the other facts.
    """
    raw = whole.get("usage")
    tier, model = text(whole.get("service_tier")), text(whole.get("model"))
    return Use(raw, read(raw), billed_in_usage(raw), tier, model)


def build_answer(
    whole: Mapping[str, object],
    content: Content,
    use: Use,
    *,
    finish: Finish,
    finish_raw: str | None,
    model: str,
    request_id: str | None,
    fingerprint: str | None = None,
) -> Answer:
    """Build an Answer from the parts that a dialect has read.

    Args:
        whole: The body, which has the answer's id.
        content: The content of the answer.
        use: The usage and other billing facts in the body.
        finish: The reason why the model stopped, in lllm's terms.
        finish_raw: The reason why the model stopped, in the provider's terms.
        model: The requested model, used if the provider named none.
        request_id: The provider's id of the request; None if it sent none.
        fingerprint: The fingerprint of the provider's system; None if it sent none.

    Returns:
        The answer. If it calls tools, its `finish` is "tool_calls", even if the server reported
        another reason.
    """
    return Answer(
        content=content,
        finish="tool_calls" if content.tool_calls and finish == "stop" else finish,
        finish_raw=finish_raw,
        model=use.model or model,
        response_id=text(whole.get("id")),
        request_id=request_id,
        service_tier=use.service_tier,
        fingerprint=fingerprint,
        usage_raw=use.usage_raw,
        usage=use.usage,
        billed=use.billed,
    )


def answer_without(what: str, use: Use, request_id: str | None) -> InvokeError:
    """Make the retryable error for a body without an answer.

    Args:
        what: The name of the missing part, such as "message".
        use: The usage in the body, which is billed anyway.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The error to raise.
    """
    message = f"The provider's answer has no {what} in it."
    return with_use(InvokeError(message, retryable=True, request_id=request_id), use)
