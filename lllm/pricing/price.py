"""Prices one attempt, and records the source of the price.

The first source that applies wins: the caller who knows that the attempt was free, the user's own
prices, the cost that the provider sent, a local model, and the price data of genai-prices. An
attempt that can't be priced gets the status "unpriced", with the reason and advice; its cost is
unknown, not zero, and no part of it is left out of the bill.
"""

from __future__ import annotations

from lllm.events.model import Content, Price, Usage
from lllm.pricing.amounts import fits_event
from lllm.pricing.attempt_usage import AttemptUsage
from lllm.pricing.listed_price import listed_fees, listed_price
from lllm.pricing.local_models import why_free
from lllm.pricing.request_media import NOTHING, Sent
from lllm.pricing.user_prices import PriceTable
from lllm.pricing.why_unpriced import NoRateError, unpriced


def price(
    usage: Usage | None,
    *,
    provider: str,
    model: str,
    at: int,
    service_tier: str | None = None,
    billed: int | None = None,
    free: str | None = None,
    prices: PriceTable | None = None,
    asked: str | None = None,
    usage_raw: object = None,
    content: Content | None = None,
    host: str | None = None,
    port: int | None = None,
    region: str | None = None,
    sent: Sent = NOTHING,
) -> Price:
    """Price one attempt.

    To price recorded usage again, omit `billed` and `free`, pass other prices, or pass another
    model with the provider "". It raises nothing.

    Args:
        usage: The usage of the attempt; None if unknown.
        provider: The provider that bills, as the event names it. If genai-prices does not know the
            provider, the attempt is unpriced. For a gateway, a scripted model, and "", the model's
            name decides, such as "openai/gpt-4o-mini".
        model: The model that answered, as the event names it.
        at: The time at which the attempt began, nanoseconds UTC; rates change with the date and the
            time of day.
        service_tier: The service tier as the provider sent it ("flex", "priority", "batch", or
            "fast" for Anthropic's fast mode); None for the default one. Without rates of that tier,
            the attempt is unpriced.
        billed: The cost that the provider sent, in nano-dollars; None if it sent none.
        free: The reason why the attempt cost nothing; None if it may have cost something.
        prices: The user's own prices; None for none. They win over everything except `free`.
        asked: The model that was requested, if the answer names another; the user's prices and the
            rates of Bedrock may depend on it.
        usage_raw: The usage as the provider sent it; an item in it without a known price makes the
            attempt unpriced.
        content: The answer, with its calls of hosted tools; None if none arrived.
        host: The host that the request was sent to; prices may depend on its region.
        port: The port that the request was sent to; it identifies a local model.
        region: The region in the path of the address; None if there is none.
        sent: The media and the service tier of the request; the answer must account for them.

    Returns:
        The price; if its status is "unpriced", it has a reason.
    """
    if free is not None:
        return Price("free", nanos=0, reason=free)
    used = AttemptUsage(usage, usage_raw, content, model, sent)
    if prices is not None:
        fees = listed_fees(provider, model, at) if used.charges.counts else {}
        own = prices.price(
            used.valid,
            provider=provider, model=model, asked=asked, charges=used.charges, fees=fees,
        )  # fmt: skip
        if own is not None:
            return own
    if billed is not None and billed >= 0 and fits_event(billed):
        return Price("provider", nanos=billed, source=provider)
    local = why_free(provider, model, host=host, port=port)
    if local is not None:
        return Price("free", nanos=0, reason=local)
    if used.valid is None:
        return Price("unpriced", reason=used.fault)
    try:
        return listed_price(
            used, used.valid,
            provider=provider, model=model, asked=asked, at=at,
            service_tier=service_tier, host=host, region=region,
        )  # fmt: skip
    except NoRateError as error:
        return unpriced(error)
