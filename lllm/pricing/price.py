"""Prices one attempt, and records the source of the price.

The first of these that has something to say: the caller who knows that it was free, the user's own
prices, the provider that bills it, the machine of one's own that it ran on, and the price data that
genai-prices brings along. What can't be priced says why, and what to do about it; it is never zero,
and never priced as if a part of it had cost nothing.
"""

from __future__ import annotations

from lllm.events.model import Content, Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.amounts import fits_event
from lllm.pricing.attempt_usage import AttemptUsage
from lllm.pricing.genai_prices import NoRateError
from lllm.pricing.listed_price import listed_fees, listed_price
from lllm.pricing.local_models import why_free
from lllm.pricing.request_media import NOTHING, Sent
from lllm.pricing.user_prices import PriceTable


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

    Recorded usage is priced anew by the same call: without `billed` and `free`, with other prices,
    or as another model of provider "". Nothing is raised.

    Args:
        usage: What it used, None where nobody knows.
        provider: As the event names it. A model of a provider that genai-prices has not heard of is
            unpriced, but for a gateway, a scripted model and a provider of "", which are told by
            the model's name, "openai/gpt-4o-mini" included.
        model: The one that answered, as the event names it.
        at: When the attempt began, nanoseconds UTC; rates change with the date and the time of day.
        service_tier: As the provider sent it ("flex", "priority", "batch", or "fast" for
            Anthropic's fast mode), which must have rates of its own.
        billed: Nano-dollars that the provider itself says it cost.
        free: Why it cost nothing, None where it did not.
        prices: The user's own, None for none; they win over all but `free`.
        asked: The model asked for, where another name answered; the user's prices may go by it, and
            those of Bedrock do.
        usage_raw: The usage as the provider sent it; what has a price in it that nobody knows makes
            the attempt unpriced.
        content: The answer, in which the calls of tools stand that the provider bills.
        host: Where it was asked; a region may have other prices, a local model has none.
        port: The same.
        region: What the path of the address names.
        sent: What was asked for that has a price of its own, which the answer must account for.

    Returns:
        The price; one of status "unpriced" has its reason.
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
        return _unpriced(error)


def _unpriced(error: NoRateError) -> Price:
    """Explain why the price data can't price an attempt, and what the user can do."""
    version = genai_prices.version()
    return Price(
        "unpriced",
        source=genai_prices.SOURCE,
        source_version=version,
        reason=f"{genai_prices.SOURCE} {version} {error}. Say what it costs with LogStore(..., "
        f'prices={{{error.model!r}: {{"input": ..., "output": ...}}}}) in US dollars for a '
        f"million tokens, or 0 where it costs nothing.{error.advice}",
    )
