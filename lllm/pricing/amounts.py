"""Parses and converts amounts of money and of tokens, exactly.

What a provider itself says that a call cost is read here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from lllm.events.model import Amount

# A context of our own: the thread's may have been set to a precision that loses money.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AMOUNTS = tuple[Amount, ...]
_USUAL = 10**12  # within the bounds of an Amount
_LARGEST = 30  # order of magnitude; more is no money, and would take an age to become an int
# xAI counts money in ticks, 10**10 to a US dollar: https://docs.x.ai/developers/cost-tracking
_TICK = -10


def fits_event(*amounts: object) -> bool:
    """True if amounts are whole numbers within the bounds of `Amount`."""
    if all(type(amount) is int and -_USUAL < amount < _USUAL for amount in amounts):
        return True  # as nearly all are, which is sooner seen than checked
    try:
        msgspec.convert(amounts, _AMOUNTS)
    except msgspec.ValidationError:
        return False
    return True


def number(value: object) -> Decimal | None:
    """Parse a non-negative number from JSON or from a user.

    A float is taken for the shortest decimal that reads back as it, which is what was written.

    Args:
        value: Anything.

    Returns:
        The number; None for what is none, for NaN and infinities, and for a bool.
    """
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        return None
    # repr() of a subclass, as numpy's, says more than the number.
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return exact if exact.is_finite() and exact >= 0 else None


def nanos_of(dollars: Decimal) -> int | None:
    """Convert US dollars to nano-dollars.

    Args:
        dollars: An exact amount.

    Returns:
        Nano-dollars, rounded half-even; None for more than an event can hold.
    """
    if dollars and dollars.adjusted() > _LARGEST:
        return None
    nanos = rounded(dollars, 9)
    return nanos if fits_event(nanos) else None


def rounded(exact: Decimal, shift: int) -> int:
    """Round an exact amount to a whole number, half to even.

    Args:
        exact: The amount.
        shift: Of the point to the right, before it is rounded.

    Returns:
        The whole number.
    """
    return int(exact.scaleb(shift, EXACT).to_integral_value(context=EXACT))


# -- what a provider says that a call cost


def billed_of(raw: object) -> int | None:
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


def billed_by(headers: Mapping[str, str]) -> int | None:
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
