"""The arithmetic of a bill: tokens times rates, in nano-dollars, by component.

The money is worked out here, and not by genai-prices, because a bill needs the parts: each
component is summed exactly, in `Decimal`, and rounded half-even once. How tokens are divided is
genai-prices' rule (its `decompose` module): a token is billed by the most specific rate that there
is, so that cached tokens of a model without a cache price are billed as input. Where the rates come
from is another matter: see `lllm.pricing.genai_prices` and `lllm.pricing.user_prices`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

import msgspec

from lllm.events.model import Amount, Price, Usage

# A context of our own: the thread's may have been set to a precision that loses money.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_AMOUNTS = tuple[Amount, ...]
_USUAL = 10**12  # within the bounds of an Amount
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
    Unit("input_image_mtok", "image_in", "image_in"),
    Unit("input_video_mtok", "video_in", "video_in"),
    Unit("output_image_mtok", "image_out", "image_out"),
    Unit("output_video_mtok", "video_out", "video_out"),
    Unit("output_citation_mtok", "citation", "citation"),
    Unit("cache_write_5m_mtok", "cache_write_5m", "cache_write"),
    Unit("cache_write_1h_mtok", "cache_write_1h", "cache_write"),
    Unit("cache_read_mtok", "cache_read", "cache_read", ("cache_audio_read",)),
    Unit("cache_write_mtok", "cache_write", "cache_write", ("cache_write_5m", "cache_write_1h")),
    Unit("input_audio_mtok", "audio_in", "audio_in", ("cache_audio_read",)),
    Unit("output_reasoning_mtok", "reasoning", "output"),
    Unit("output_audio_mtok", "audio_out", "audio_out"),
    Unit("input_mtok", "input", "input", (
        "cache_audio_read", "cache_write_5m", "cache_write_1h", "cache_read", "cache_write",
        "audio_in", "image_in", "video_in",
    )),
    Unit("output_mtok", "output", "output", ("reasoning", "audio_out", "image_out", "video_out")),
)  # fmt: skip
# Tokens of kinds that are seldom counted, by the unit's name in genai-prices, and ours.
_SELDOM = {
    "input_image_tokens": "image_in",
    "input_video_tokens": "video_in",
    "output_image_tokens": "image_out",
    "output_video_tokens": "video_out",
    "output_citation_tokens": "citation",  # which no output counts
}


class Charges(NamedTuple):
    """What an attempt used beside the tokens of its usage; `lllm.pricing.charges` finds it.

    counts: by the unit's name in genai-prices. unknown: what can't be priced, in words. hosted:
    whether tools ran at the provider, between which the model may have been asked several times.
    """

    counts: Mapping[str, Decimal] = {}
    unknown: tuple[str, ...] = ()
    hosted: bool = False


NOTHING = Charges()


class Counted(NamedTuple):
    """What is counted and is no token. key: the rate's name in genai-prices, for `per` of them.
    name: ours, which is the part of a Price that it counts in."""

    key: str
    per: int
    name: str


# By the unit's name in genai-prices. Tools that a provider runs are the TOOLS of events.model.
COUNTED = {
    "web_searches": Counted("web_searches_kcount", 1000, "web_search"),
    "storage_searches": Counted("storage_searches_kcount", 1000, "file_search"),
    "social_searches": Counted("social_searches_kcount", 1000, "social_search"),
    "code_executions": Counted("code_executions_kcount", 1000, "code_execution"),
    "input_audio_seconds": Counted("input_audio_hours", 3600, "audio_in"),
    "input_pixels": Counted("input_gpixels", 10**9, "image_in"),
}


class Tariff(NamedTuple):
    """The rates of one model at one time: US dollars for a million tokens, for a request, and for
    one of what is counted, by the unit's name.

    texts: the same as a Price shows them. effective: the date from which they hold. whole: whether
    tokens of a kind that has no rate are billed as those that they are among, as in a table of the
    user's own; otherwise nobody knows what they cost.
    """

    tokens: tuple[tuple[Unit, Decimal], ...]
    request: Decimal | None
    texts: dict[str, str]
    effective: str | None = None
    counted: Mapping[str, Decimal] = {}
    whole: bool = False

    @classmethod
    def of(
        cls,
        rates: Mapping[str, Decimal],
        request: Decimal | None,
        effective: str | None = None,
        *,
        counted: Mapping[str, Decimal] | None = None,
        whole: bool = False,
    ) -> Tariff:
        """From US dollars for a million tokens of each unit, by our names."""
        tokens = tuple((unit, rates[unit.name]) for unit in UNITS if unit.name in rates)
        texts = {unit.name: _text(rate.scaleb(-6, EXACT)) for unit, rate in tokens}
        if request is not None:
            texts["request"] = _text(request)
        return cls(tokens, request, texts, effective, dict(counted or {}), whole)

    def times(self, factor: Decimal) -> Tariff:
        """The same with all rates of tokens multiplied."""
        rates = {unit.name: EXACT.multiply(rate, factor) for unit, rate in self.tokens}
        return Tariff.of(
            rates, self.request, self.effective, counted=self.counted, whole=self.whole
        )

    def rate(self, name: str) -> Decimal | None:
        """US dollars for a million tokens of a kind, None where it has no rate of its own."""
        return next((rate for unit, rate in self.tokens if unit.name == name), None)


def _text(rate: Decimal) -> str:
    return f"{rate.normalize(EXACT):f}"


class Sampling(NamedTuple):
    """One time that a model was asked, of the several that one attempt may have been."""

    usage: Usage
    tariff: Tariff


def bill(
    usage: Usage,
    tariff: Tariff,
    *,
    source: str,
    version: str | None,
    charges: Charges = NOTHING,
) -> Price:
    """What a usage costs at these rates; see `bill_all`."""
    return bill_all([Sampling(usage, tariff)], source=source, version=version, charges=charges)


def bill_all(
    samplings: Sequence[Sampling], *, source: str, version: str | None, charges: Charges
) -> Price:
    """What all samplings of an attempt cost; "unpriced" where a usage contradicts itself, or
    something in it has no rate.

    source, version: who gives the rates, as the Price says it. charges: what was used beside the
    usage, of the first sampling's model.
    """
    main = samplings[0].tariff
    sums: dict[str, Decimal] = {}
    texts = dict(main.texts)

    def unpriced(reason: str) -> Price:
        return Price("unpriced", source=source, source_version=version, reason=reason)

    for place, sampling in enumerate(samplings):
        seldom = charges.counts if place == 0 else {}
        fault = _add_tokens(sums, sampling, seldom)
        if fault is not None:
            return unpriced(fault)
    # A rate is dollars for a million tokens, so a token's is a thousand times as many nanos.
    exact = {component: total.scaleb(3, EXACT) for component, total in sums.items()}
    for name, count in charges.counts.items():
        if name in _SELDOM:
            continue
        rate = main.counted.get(name)
        if rate is None:
            return unpriced(f"It used {count} {name.replace('_', ' ')}, which have no known rate.")
        component = COUNTED[name].name
        texts[component] = _text(rate)
        cost = EXACT.multiply(rate, count).scaleb(9, EXACT)
        exact[component] = EXACT.add(exact.get(component, Decimal(0)), cost)
    parts = {component: _rounded(total, 0) for component, total in exact.items()}
    if main.request is not None:
        parts["request"] = _rounded(main.request, 9)
    nanos = sum(parts.values())
    if not fits_event(nanos, *parts.values()):
        return unpriced("The sum is beyond all that a call can cost.")
    return Price(
        status="priced",
        nanos=nanos,
        parts=parts,
        rates=texts,
        source=source,
        source_version=version,
        effective=main.effective,
    )


def _add_tokens(
    sums: dict[str, Decimal], sampling: Sampling, seldom: Mapping[str, Decimal]
) -> str | None:
    """Add what the tokens of one sampling cost, in millionths of a dollar; returns what is wrong
    with them, None for nothing."""
    usage, tariff = sampling
    counts = _counts(usage)
    for key, name in _SELDOM.items():
        counts[name] = int(seldom.get(key, 0))
    for name, kind in _KINDS.items():
        # No output counts citations, so nothing else stands for their rate.
        needs_a_rate = name == "citation" or not tariff.whole
        if counts[name] and needs_a_rate and tariff.rate(name) is None:
            return f"It used {counts[name]} tokens of {kind}, which have no known rate."
    taken: dict[str, int] = {}
    for unit, rate in tariff.tokens:
        tokens = counts[unit.name]
        for name in unit.within:
            tokens -= taken.get(name, 0)
        if tokens < 0:
            return f"The usage counts more tokens within {unit.name} than it has."
        taken[unit.name] = tokens
        if tokens:
            exact = EXACT.multiply(rate, tokens)
            before = sums.get(unit.component)
            sums[unit.component] = exact if before is None else EXACT.add(before, exact)
    return None


# Kinds of tokens that seldom cost what text does.
_KINDS = {
    "audio_in": "audio that went in",
    "audio_out": "audio that came out",
    "image_in": "images that went in",
    "image_out": "images that came out",
    "video_in": "video that went in",
    "video_out": "video that came out",
    "citation": "citations",
}


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


def validation_error(usage: Usage) -> str | None:
    """What contradicts itself in a usage, as a sentence; None for one that makes sense."""
    if within_limits(usage) is None:
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


def within_limits(usage: Usage | None) -> Usage | None:
    """A usage that an event can hold, None for one with counts that can't be; its `price` says so.

    The bounds are those of `events.model.Amount`; what is beyond them would be written, and could
    not be read again.
    """
    return usage if usage is None or fits_event(*msgspec.structs.astuple(usage)) else None


def fits_event(*amounts: object) -> bool:
    """Whether an event can hold them."""
    if all(type(amount) is int and -_USUAL < amount < _USUAL for amount in amounts):
        return True  # as nearly all are, which is sooner seen than checked
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
    return nanos if fits_event(nanos) else None


def _rounded(exact: Decimal, shift: int) -> int:
    return int(exact.scaleb(shift, EXACT).to_integral_value(context=EXACT))
