"""The arithmetic of a bill: tokens times rates, in nano-dollars, by component.

The money is worked out here, and not by genai-prices, because a bill needs the parts: each
component is summed exactly, in `Decimal`, and rounded half-even once. How tokens are divided is
genai-prices' rule (its `decompose` module): a token is billed by the most specific rate that there
is, so that cached tokens of a model without a cache price are billed as input. Where the rates come
from is another matter: see `lllm.price_data` and `lllm.price_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

import msgspec

from lllm.events.model import Amount, Price, Usage

# A context of our own: the thread's may have been set to a precision that loses money.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AMOUNTS = tuple[Amount, ...]
_LARGEST = 30  # order of magnitude; more is no money, and would take an age to become an int


class Unit(NamedTuple):
    """One kind of token that can have a rate of its own.

    key: the rate's name in genai-prices. name: ours. component: the part of a Price it counts in.
    within: the kinds, more specific, whose tokens are among these.
    """

    key: str
    name: str
    component: str
    within: tuple[str, ...] = ()


# The most specific first: what they take is known when the general ones are reckoned.
UNITS = (
    Unit("cache_audio_read_mtok", "cache_audio_read", "cache_read"),
    Unit("cache_write_5m_mtok", "cache_write_5m", "cache_write"),
    Unit("cache_write_1h_mtok", "cache_write_1h", "cache_write"),
    Unit("cache_read_mtok", "cache_read", "cache_read", ("cache_audio_read",)),
    Unit("cache_write_mtok", "cache_write", "cache_write", ("cache_write_5m", "cache_write_1h")),
    Unit("input_audio_mtok", "audio_in", "audio_in", ("cache_audio_read",)),
    Unit("output_reasoning_mtok", "reasoning", "output"),
    Unit("output_audio_mtok", "audio_out", "audio_out"),
    Unit("input_mtok", "input", "input", (
        "cache_audio_read", "cache_write_5m", "cache_write_1h", "cache_read", "cache_write",
        "audio_in",
    )),
    Unit("output_mtok", "output", "output", ("reasoning", "audio_out")),
)  # fmt: skip


class Tariff(NamedTuple):
    """The rates of one model at one time: US dollars for a million tokens, and for a request.

    texts: the same as a Price shows them. effective: the date from which they hold.
    """

    tokens: tuple[tuple[Unit, Decimal], ...]
    request: Decimal | None
    texts: dict[str, str]
    effective: str | None = None

    @classmethod
    def of(
        cls, rates: Mapping[str, Decimal], request: Decimal | None, effective: str | None = None
    ) -> Tariff:
        """From US dollars for a million tokens of each unit, by our names."""
        tokens = tuple((unit, rates[unit.name]) for unit in UNITS if unit.name in rates)
        texts = {unit.name: _text(rate.scaleb(-6, EXACT)) for unit, rate in tokens}
        if request is not None:
            texts["request"] = _text(request)
        return cls(tokens, request, texts, effective)


def _text(rate: Decimal) -> str:
    return f"{rate.normalize(EXACT):f}"


def bill(usage: Usage, tariff: Tariff, *, source: str, version: str | None) -> Price:
    """What a usage costs at these rates; "unpriced" where it contradicts itself.

    source, version: who gives the rates, as the Price says it.
    """
    counts = _counts(usage)
    taken: dict[str, int] = {}
    sums: dict[str, Decimal] = {}
    for unit, rate in tariff.tokens:
        tokens = counts[unit.name]
        for name in unit.within:
            tokens -= taken.get(name, 0)
        if tokens < 0:
            reason = f"The usage counts more tokens within {unit.name} than it has."
            return Price("unpriced", source=source, source_version=version, reason=reason)
        taken[unit.name] = tokens
        if tokens:
            exact = EXACT.multiply(rate, tokens)
            before = sums.get(unit.component)
            sums[unit.component] = exact if before is None else EXACT.add(before, exact)
    # A rate is dollars for a million tokens, so a token's is a thousand times as many nanos.
    parts = {component: _rounded(exact, 3) for component, exact in sums.items()}
    if tariff.request is not None:
        parts["request"] = _rounded(tariff.request, 9)
    nanos = sum(parts.values())
    if not holds(nanos):
        reason = "The sum is beyond all that a call can cost."
        return Price("unpriced", source=source, source_version=version, reason=reason)
    return Price(
        status="priced",
        nanos=nanos,
        parts=parts,
        rates=dict(tariff.texts),
        source=source,
        source_version=version,
        effective=tariff.effective,
    )


def _counts(usage: Usage) -> dict[str, int]:
    writes = usage.cache_write_5m + usage.cache_write_1h
    # Nobody reports how much of the audio was cached. As little as the sums allow is assumed.
    overlap = max(0, usage.cache_read + writes + usage.audio_in - usage.input)
    return {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_audio_read": min(overlap, usage.cache_read),
        "cache_write": writes,
        "cache_write_5m": usage.cache_write_5m,
        "cache_write_1h": usage.cache_write_1h,
        "audio_in": usage.audio_in,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "audio_out": usage.audio_out,
    }


def impossible(usage: Usage) -> str | None:
    """What contradicts itself in a usage, as a sentence; None for one that makes sense."""
    if believable(usage) is None:
        return "The usage has counts that are no whole numbers, or beyond all that a call can use."
    if min(msgspec.structs.astuple(usage)) < 0:
        return "The usage has negative counts."
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    for inner, name, outer, whole in (
        (cached, "cached", usage.input, "input"),
        (usage.audio_in, "audio", usage.input, "input"),
        (usage.audio_out, "audio", usage.output, "output"),
        (usage.reasoning, "reasoning", usage.output, "output"),
    ):
        if inner > outer:
            return f"The usage counts {inner} {name} tokens among {outer} of {whole}."
    return None


def believable(usage: Usage | None) -> Usage | None:
    """A usage that an event can hold, None for one with counts that can't be; its `price` says so.

    The bounds are those of `events.model.Amount`; what is beyond them would be written, and could
    not be read again.
    """
    return usage if usage is None or holds(*msgspec.structs.astuple(usage)) else None


def holds(*amounts: object) -> bool:
    """Whether an event can hold them."""
    try:
        msgspec.convert(amounts, _AMOUNTS)
    except msgspec.ValidationError:
        return False
    return True


def number(value: object) -> Decimal | None:
    """A number that is not negative, from JSON or from a user; None for what is none, NaN, a bool.

    A float is taken for the shortest decimal that reads back as it, which is what was written.
    """
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        return None
    # repr() of a subclass, as numpy's, says more than the number.
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return exact if exact.is_finite() and exact >= 0 else None


def nanos_of(dollars: Decimal) -> int | None:
    """US dollars as nano-dollars, rounded half-even; None for more than an event can hold."""
    if dollars and dollars.adjusted() > _LARGEST:
        return None
    nanos = _rounded(dollars, 9)
    return nanos if holds(nanos) else None


def _rounded(exact: Decimal, shift: int) -> int:
    return int(exact.scaleb(shift, EXACT).to_integral_value(context=EXACT))
