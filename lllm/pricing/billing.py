"""Calculates a bill: tokens times rates, in nano-dollars, for each component.

lllm multiplies tokens by rates itself, because genai-prices returns only totals and a bill needs
the components. Each component is summed exactly, in `Decimal`, and rounded half-even once. Tokens
are divided by the rule of genai-prices (its `decompose` module): the most specific rate that exists
applies, so cached tokens of a model without a cache price are billed as input. The rates come from
`lllm.pricing.listed_price` or `lllm.pricing.user_prices`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from lllm.events.model import Price, Usage
from lllm.pricing.amounts import EXACT, fits_event, rounded


class Unit(NamedTuple):
    """A kind of token that can have its own rate.

    Attributes:
        key: The name of the rate in genai-prices.
        name: lllm's name for the kind.
        component: The component of a Price to which its cost is added.
        within: The names of the more specific kinds whose tokens this kind includes.
    """

    key: str
    name: str
    component: str
    within: tuple[str, ...] = ()


# The most specific kinds come first, because their tokens are subtracted from the general ones.
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
# Kinds of token that few usages count: the unit's name in genai-prices, and lllm's name.
_SELDOM = {
    "input_image_tokens": "image_in",
    "input_video_tokens": "video_in",
    "output_image_tokens": "image_out",
    "output_video_tokens": "video_out",
    "output_citation_tokens": "citation",  # no usage counts these
}


class Charges(NamedTuple):
    """The billed items of an attempt other than its tokens; `lllm.pricing.fees` finds them.

    Attributes:
        counts: The quantity of each item, by the name of its unit in genai-prices.
        unknown: Descriptions of items that have no known price.
        hosted: True if the provider ran tools, so that it may have sampled the model several
            times.
    """

    counts: Mapping[str, Decimal] = {}
    unknown: tuple[str, ...] = ()
    hosted: bool = False


NOTHING = Charges()


class Counted(NamedTuple):
    """A billed item that is not a token, such as a web search.

    Attributes:
        key: The name of the rate in genai-prices.
        per: The number of items that one rate pays for, such as 1000 searches.
        name: lllm's name for the item, and for its component in a Price.
    """

    key: str
    per: int
    name: str


# By the unit's name in genai-prices. Tools run by a provider are `TOOLS` in events.model.
COUNTED = {
    "web_searches": Counted("web_searches_kcount", 1000, "web_search"),
    "storage_searches": Counted("storage_searches_kcount", 1000, "file_search"),
    "social_searches": Counted("social_searches_kcount", 1000, "social_search"),
    "code_executions": Counted("code_executions_kcount", 1000, "code_execution"),
    "input_audio_seconds": Counted("input_audio_hours", 3600, "audio_in"),
    "input_pixels": Counted("input_gpixels", 10**9, "image_in"),
}


class Tariff(NamedTuple):
    """The rates of one model at one point in time.

    Attributes:
        tokens: US dollars for a million tokens of each kind that has a rate.
        request: US dollars for each request; None if there is no such fee.
        texts: The rates as texts, as a Price shows them.
        effective: The date from which the rates are valid; None if unknown.
        counted: US dollars for one item that is not a token, by the unit's name in genai-prices.
        whole: True if a kind of token without a rate is billed at the rate of the kind that
            includes it, as in a user's price table; False if its price is unknown.
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
        """Make a tariff from rates by name.

        Args:
            rates: US dollars for a million tokens, by lllm's names for the kinds.
            request: US dollars for each request; None if there is no such fee.
            effective: The date from which the rates are valid; None if unknown.
            counted: US dollars for one item that is not a token, by the unit's name in
                genai-prices; None for no such items.
            whole: True if a kind of token without a rate is billed at the rate of the kind that
                includes it.
        """
        tokens = tuple((unit, rates[unit.name]) for unit in UNITS if unit.name in rates)
        texts = {unit.name: _text(rate.scaleb(-6, EXACT)) for unit, rate in tokens}
        if request is not None:
            texts["request"] = _text(request)
        return cls(tokens, request, texts, effective, dict(counted or {}), whole)

    def times(self, factor: Decimal) -> Tariff:
        """Make a tariff with its token rates multiplied by a factor."""
        rates = {unit.name: EXACT.multiply(rate, factor) for unit, rate in self.tokens}
        return Tariff.of(
            rates, self.request, self.effective, counted=self.counted, whole=self.whole
        )


def _text(rate: Decimal) -> str:
    """Format a rate without an exponent."""
    return f"{rate.normalize(EXACT):f}"


class Sampling(NamedTuple):
    """One sampling of a model within an attempt, with its rates."""

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
    """Calculate the bill of one sampling at the rates of one tariff; see `bill_all`."""
    return bill_all([Sampling(usage, tariff)], source=source, version=version, charges=charges)


def bill_all(
    samplings: Sequence[Sampling], *, source: str, version: str | None, charges: Charges
) -> Price:
    """Add up the bills of all samplings of an attempt.

    Args:
        samplings: The usage and the rates of each sampling; the answering model's come first.
        source: The source of the rates, as the Price names it.
        version: The version of the source; None if it has none.
        charges: The billed items other than tokens; they are billed at the first tariff.

    Returns:
        The price. Its status is "unpriced", with the reason, if a kind of token has fewer tokens
        than the kinds that it includes, or if an item has no rate.
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
    # A rate is dollars for a million tokens, so the rate times 1,000 is nano-dollars for a token.
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
    parts = {
        component: int(total.to_integral_value(context=EXACT)) for component, total in exact.items()
    }
    if main.request is not None:
        parts["request"] = rounded(main.request, 9)
    nanos = sum(parts.values())
    if not fits_event(nanos, *parts.values()):
        return unpriced("The total is more than a call can cost.")
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
    """Add the cost of one sampling's tokens to `sums`, in millionths of a dollar.

    Returns a sentence that says what is wrong with the tokens, or None.
    """
    usage, tariff = sampling
    counts = _counts_by_kind(usage)
    for key, name in _SELDOM.items():
        counts[name] = int(seldom.get(key, 0))
    for name, kind in _KINDS.items():
        # No usage counts citation tokens, so no other count can stand for them.
        needs_a_rate = name == "citation" or not tariff.whole
        if counts[name] and needs_a_rate and name not in tariff.texts:
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


# Kinds of token that often have another rate than text.
_KINDS = {
    "audio_in": "audio that went in",
    "audio_out": "audio that came out",
    "image_in": "images that went in",
    "image_out": "images that came out",
    "video_in": "video that went in",
    "video_out": "video that came out",
    "citation": "citations",
}


def _counts_by_kind(usage: Usage) -> dict[str, int]:
    """Count the tokens of each kind, by lllm's names."""
    writes = usage.cache_write_5m + usage.cache_write_1h
    # No usage says how much of the audio was cached. The least possible number is assumed.
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
