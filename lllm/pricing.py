"""What one attempt cost, and who says so.

The first of these that has something to say: the caller who knows that it was free, the user's own
prices, the provider that bills it, the machine of one's own that it ran on, and the price data that
genai-prices brings along. What can't be priced says why, and what to do about it; it is never zero.
"""

from __future__ import annotations

from lllm import price_data
from lllm.events.model import Price, Usage
from lllm.local_models import why_free
from lllm.price_table import PriceTable
from lllm.tariff import believable, bill, holds, impossible
from lllm.usage import unreadable

__all__ = ["believable", "price"]


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
) -> Price:
    """The price of one attempt.

    provider, model: as the event names them; a provider that genai-prices has not heard of (a
    proxy, a scripted model) is told by the model's name, "openai/gpt-4o-mini" included.
    at: when the attempt began, nanoseconds UTC; rates change with the date and the time of day.
    service_tier: as the provider sent it ("flex", "priority", "batch", or "fast" for Anthropic's
    fast mode), which may have rates of its own.
    billed: nano-dollars that the provider itself says it cost.
    free: why it cost nothing, None where it did not.
    prices: the user's own, None for none; they win over all but `free`.
    asked: the model asked for, where another name answered; the user's prices may go by it.
    usage_raw: the usage as the provider sent it, to say what is wrong where `usage` is None.

    The same call prices recorded usage anew: without billed and free, with other prices, or as
    another model of provider "". Never raises; "unpriced" comes with its reason.
    """
    if free is not None:
        return Price("free", nanos=0, reason=free)
    if prices is not None:
        own = prices.price(usage, provider=provider, model=model, asked=asked)
        if own is not None:
            return own
    if billed is not None and billed >= 0 and holds(billed):
        return Price("provider", nanos=billed, source=provider)
    local = why_free(provider, model)
    if local is not None:
        return Price("free", nanos=0, reason=local)
    if usage is None:
        return Price("unpriced", reason=unreadable(usage_raw))
    nonsense = impossible(usage)
    if nonsense is not None:
        return Price("unpriced", reason=nonsense)
    return _listed(usage, provider, model, at, service_tier)


def _listed(usage: Usage, provider: str, model: str, at: int, service_tier: str | None) -> Price:
    """By the price data."""
    found = price_data.find(provider, model)
    if found is None:
        whose = f" of provider {provider!r}" if provider else ""
        return _unpriced(f"lists no model {model!r}{whose}", model)
    tariff = found.tariff(at, service_tier, usage.input)
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return _unpriced(f"lists {found.name} without a price for tokens", model)
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return _unpriced(f"lists {found.name} without a price for {name} tokens", model)
    return bill(usage, tariff, source=price_data.SOURCE, version=price_data.version())


def _unpriced(fault: str, model: str) -> Price:
    version = price_data.version()
    return Price(
        "unpriced",
        source=price_data.SOURCE,
        source_version=version,
        reason=f"{price_data.SOURCE} {version} {fault}. Say what it costs with "
        f'LogStore(..., prices={{{model!r}: {{"input": ..., "output": ...}}}}) in US dollars for a '
        "million tokens, or 0 where it costs nothing.",
    )
