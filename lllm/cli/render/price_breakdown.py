"""Explains how the price of an attempt was calculated, so that it can be checked by hand."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from lllm.cli.render import formats
from lllm.events.model import Usage
from lllm.pricing.billing import Tariff, bill
from lllm.projections.session.call_session import InvokeTrace
from lllm.projections.session.invoke_cost import nanos
from lllm.terminal_safe import visible

_LONG = 240  # characters shown of a reason
_KINDS = {
    "input": "in",
    "cache_read": "cached",
    "cache_audio_read": "cached audio",
    "cache_write": "written",
    "cache_write_5m": "written for 5 min",
    "cache_write_1h": "written for 1 h",
    "audio_in": "audio in",
    "output": "out",
    "reasoning": "reasoning",
    "audio_out": "audio out",
    "image_in": "of images in",
    "image_out": "of images out",
    "video_in": "of video in",
    "video_out": "of video out",
    "citation": "cited",
}
_ONE = Decimal("0.001")  # US dollars for a million tokens: a nano-dollar for each


def price_breakdown(trace: InvokeTrace) -> str:
    """Format a price as tokens times rates, or name its source.

    Args:
        trace: The attempt to explain.

    Returns:
        A single line; "" if the attempt has no price.
    """
    if trace.price is None:
        return ""
    if trace.price in ("free", "unpriced"):
        why = f": {formats.shortened(trace.price_reason, _LONG)}" if trace.price_reason else ""
        if trace.recorded_cost is not None:
            why += f" It cost {_dollars(nanos(trace.recorded_cost))}."
        return f"{trace.price}{why}"
    sum_ = _dollars(nanos(trace.cost.cost))
    products = _products(trace)
    if products is not None:
        terms, product = products
        sign = "=" if product == nanos(trace.cost.cost) else "≈"
        return f"{' + '.join(terms)} {sign} {sum_}" if terms else sum_
    total = f"{sum_}, as {visible(trace.price_source)} says" if trace.price_source else sum_
    if len(trace.parts) < 2:
        return total
    terms = [f"{visible(name)} {_dollars(part)}" for name, part in trace.parts.items()]
    return f"{' + '.join(terms)} = {total}"


def _dollars(amount: int) -> str:
    """Format nano-dollars as US dollars, without trailing zeros."""
    return f"${_plain(Decimal(amount).scaleb(-9))}"


def _products(trace: InvokeTrace) -> tuple[list[str], Decimal] | None:
    """Format tokens times rate for each kind, and sum the nano-dollars.

    Returns None if the price was not calculated like this, or by rules that this lllm doesn't know.
    """
    rates = _rates(trace.rates)
    if rates is None or trace.usage is None:
        return None
    fee = rates.pop("request", None)
    made = bill(trace.usage, Tariff.of(rates, fee), source="", version=None)
    if made.parts != trace.parts or made.nanos != nanos(trace.cost.cost):
        return None
    terms, product = [], Decimal(0)
    for kind, name in _KINDS.items():
        tokens = _billed_tokens(trace.usage, rates, kind) if kind in rates else 0
        if tokens:
            terms.append(f"{tokens:,} {name} x ${_plain(rates[kind])}/M")
            product += tokens * rates[kind] * 1_000
    if fee is not None:
        terms.append(f"1 call x ${_plain(fee)}")
        product += fee.scaleb(9)
    return terms, product


def _billed_tokens(usage: Usage, rates: dict[str, Decimal], kind: str) -> int:
    """Count the tokens billed at one kind's rate."""
    alone = {name: _ONE if name == kind else Decimal(0) for name in rates}
    return bill(usage, Tariff.of(alone, None), source="", version=None).nanos or 0


def _rates(texts: dict[str, str]) -> dict[str, Decimal] | None:
    """Read the rates: US dollars for a million tokens of each kind, and for a call."""
    if not texts or not texts.keys() <= {*_KINDS, "request"}:
        return None
    try:
        rates = {name: Decimal(text) for name, text in texts.items()}
    except InvalidOperation:
        return None
    if not all(rate.is_finite() and abs(rate.adjusted()) < 30 for rate in rates.values()):
        return None
    return {name: rate if name == "request" else rate.scaleb(6) for name, rate in rates.items()}


def _plain(amount: Decimal) -> str:
    """Format a number without an exponent, with at least two decimals."""
    text = f"{amount.normalize():f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest:0<2}"
