"""Reads what a provider itself says that a call cost, as OpenRouter and LiteLLM's proxy do."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from lllm.pricing.amounts import EXACT, nanos_of, number

# xAI counts money in ticks, 10**10 to a US dollar: https://docs.x.ai/developers/cost-tracking
_TICK = -10


def billed_in_usage(raw: object) -> int | None:
    """Read from a usage what the provider says the call cost.

    Args:
        raw: The usage as the provider sent it.

    Returns:
        Nano-dollars; None where the usage says nothing of them, or nonsense.
    """
    whole = raw if isinstance(raw, dict) else {}
    ticks = number(whole.get("cost_in_usd_ticks"))
    if ticks is not None:
        return nanos_of(ticks.scaleb(_TICK, EXACT))
    cost = whole.get("cost")
    if isinstance(cost, dict):
        # https://docs.perplexity.ai/getting-started/pricing
        cost = cost.get("total_cost") if cost.get("currency") in (None, "USD") else None
    dollars = number(cost)
    if dollars is None:
        return None
    if whole.get("is_byok") is True:
        # With a key of the user's own `cost` is what OpenRouter itself takes, and the provider
        # behind it bills, too: https://openrouter.ai/docs/use-cases/usage-accounting
        details = whole.get("cost_details")
        named = details.get("upstream_inference_cost") if isinstance(details, dict) else None
        dollars = EXACT.add(dollars, number(named) or Decimal(0))
    return nanos_of(dollars)


def billed_in_headers(headers: Mapping[str, str]) -> int | None:
    """Read from the header of LiteLLM's proxy what a call cost.

    https://docs.litellm.ai/docs/proxy/response_headers. The proxy says a cost of nothing of models
    whose price it does not know, too, so that says nothing.

    Args:
        headers: Of the answer, without regard to case.

    Returns:
        Nano-dollars; None where the header is not there, or says nothing.
    """
    try:
        dollars = number(float(headers.get("x-litellm-response-cost") or ""))
    except ValueError:
        return None
    return nanos_of(dollars) if dollars else None
