"""Reads the cost that a provider sends with its answer, as OpenRouter and LiteLLM's proxy do."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from lllm.pricing.amounts import EXACT, nanos_of, number

# xAI counts money in ticks, 10**10 to a US dollar: https://docs.x.ai/developers/cost-tracking
_TICK = -10


def billed_in_usage(raw: object) -> int | None:
    """Read the cost of a call from the usage that the provider sent.

    Args:
        raw: The usage as the provider sent it.

    Returns:
        Nano-dollars; None if the usage names no cost, or one that is not valid.
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
        # With the user's own provider key, `cost` is only OpenRouter's fee, and the provider bills
        # the call separately: https://openrouter.ai/docs/use-cases/usage-accounting
        details = whole.get("cost_details")
        named = details.get("upstream_inference_cost") if isinstance(details, dict) else None
        dollars = EXACT.add(dollars, number(named) or Decimal(0))
    return nanos_of(dollars)


def billed_in_headers(headers: Mapping[str, str]) -> int | None:
    """Read the cost of a call from the response header of LiteLLM's proxy.

    https://docs.litellm.ai/docs/proxy/response_headers. The proxy also sends a cost of 0 for models
    whose price it does not know, so 0 is ignored.

    Args:
        headers: The headers of the response, found without regard to case.

    Returns:
        Nano-dollars; None if the header is missing, 0 or not valid.
    """
    try:
        dollars = number(float(headers.get("x-litellm-response-cost") or ""))
    except ValueError:
        return None
    return nanos_of(dollars) if dollars else None
