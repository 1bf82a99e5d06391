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
        usage: The same in our terms, None where it can't be read.
        billed: Nano-dollars that the provider itself says it cost.
        service_tier: By the provider's name for it.
        model: The one that answered, None where the provider names none.
    """

    usage_raw: object
    usage: Usage | None
    billed: int | None
    service_tier: str | None
    model: str | None


def use_of(whole: Mapping[str, object], read: Callable[[object], Usage | None]) -> Use:
    """Read the facts about the price from the body of an answer.

    Args:
        whole: The body.
        read: The dialect's reader of a usage.

    Returns:
        What it says.
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
    """Build an Answer.

    Args:
        whole: The body, in which its id stands.
        content: What the model said.
        use: What the body says of its price.
        finish: Why the model stopped, in our words.
        finish_raw: The same in the provider's.
        model: The one asked, for providers that name none.
        request_id: The provider's id of the request.
        fingerprint: Of the provider's system.

    Returns:
        The answer; one that calls tools finishes with "tool_calls", though some servers say that
        they are done whenever they stop.
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
    """Make the error for a body without an answer, which may be tried again.

    Args:
        what: It lacks, as "message".
        use: What was used all the same, which is billed.
        request_id: The provider's id of the request.

    Returns:
        The error.
    """
    message = f"The provider's answer has no {what} in it."
    return with_use(InvokeError(message, retryable=True, request_id=request_id), use)
