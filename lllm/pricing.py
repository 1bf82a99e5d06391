"""What one attempt cost, from its usage and the price data that genai-prices brings along.

The money is worked out here, not by genai-prices, because a bill needs the parts: each component
is summed exactly, in `Decimal`, and rounded half-even once to nano-dollars. How tokens are divided
is genai-prices' rule (its `decompose` module): a token is billed by the most specific rate that the
model has, so that cached tokens of a model without a cache price are billed as input. A test
compares the sums with its own, for every model it knows.

Nothing here touches the network: the bundled data counts, whatever the program has genai-prices
fetch. What can't be priced says why, and is never zero.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lllm.events.importing import importing
from lllm.events.model import Amount, Price, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TimeOfDateConstraint

_SECOND = 1_000_000_000  # nanoseconds
_SOURCE = "genai-prices"
# A context of our own: the thread's may have been set to a precision that loses money.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


class _Unit(NamedTuple):
    """One kind of token that can have a rate of its own.

    key: the rate's name in genai-prices. name: ours. component: the part of a Price it counts in.
    within: the kinds, more specific, whose tokens are among these.
    """

    key: str
    name: str
    component: str
    within: tuple[str, ...] = ()


# The most specific first: what they take is known when the general ones are reckoned.
_UNITS = (
    _Unit("cache_audio_read_mtok", "cache_audio_read", "cache_read"),
    _Unit("cache_write_5m_mtok", "cache_write_5m", "cache_write"),
    _Unit("cache_write_1h_mtok", "cache_write_1h", "cache_write"),
    _Unit("cache_read_mtok", "cache_read", "cache_read", ("cache_audio_read",)),
    _Unit("cache_write_mtok", "cache_write", "cache_write", ("cache_write_5m", "cache_write_1h")),
    _Unit("input_audio_mtok", "audio_in", "audio_in", ("cache_audio_read",)),
    _Unit("output_reasoning_mtok", "reasoning", "output"),
    _Unit("output_audio_mtok", "audio_out", "audio_out"),
    _Unit("input_mtok", "input", "input", (
        "cache_audio_read", "cache_write_5m", "cache_write_1h", "cache_read", "cache_write",
        "audio_in",
    )),
    _Unit("output_mtok", "output", "output", ("reasoning", "audio_out")),
)  # fmt: skip


class _Tariff(NamedTuple):
    """The rates of one model at one time: US dollars for a million tokens, and for a request."""

    tokens: tuple[tuple[_Unit, Decimal], ...]
    request: Decimal | None
    texts: dict[str, str]


def price(
    usage: Usage | None,
    *,
    provider: str,
    model: str,
    at: int,
    service_tier: str | None = None,
    billed: int | None = None,
    free: str | None = None,
) -> Price:
    """The price of one attempt.

    provider, model: as the event names them; a provider that genai-prices has not heard of (a
    proxy, a scripted model) is told by the model's name, "openai/gpt-4o-mini" included.
    at: when the attempt began, nanoseconds UTC; rates change with the date and the time of day.
    service_tier: as the provider sent it ("flex", "priority"), which may have rates of its own.
    billed: nano-dollars that the provider itself says it cost; that stands.
    free: why it cost nothing, None where it did not.

    Never raises; a status "unpriced" comes with its reason.
    """
    if free is not None:
        return Price("free", nanos=0, reason=free)
    if billed is not None and billed >= 0 and _holds(billed):
        return Price("provider", nanos=billed, source=provider)
    if usage is None:
        return Price("unpriced", reason="The provider sent no usage that could be read.")
    nonsense = _nonsense(usage)
    if nonsense is not None:
        return Price("unpriced", reason=nonsense)
    found = _find(provider, model)
    if found is None:
        return _unpriced(f"It lists no model {model!r} of provider {provider!r}.")
    tariff = found.tariff(at, service_tier, usage.input)
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return _unpriced(f"It lists {found.name} without a price for tokens.")
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return _unpriced(f"It lists {found.name} without a price for {name} tokens.")
    return _bill(usage, tariff)


def believable(usage: Usage | None) -> Usage | None:
    """A usage that an event can hold, None for one with counts that can't be; its `price` says so.

    The bounds are those of `events.model.Amount`; what is beyond them would be written, and could
    not be read again.
    """
    return usage if usage is None or _holds(*msgspec.structs.astuple(usage)) else None


def is_ready() -> bool:
    """Whether the price data has been read; the first price takes some tenths of a second more."""
    return _snapshot.cache_info().currsize > 0


def make_ready() -> None:
    """Read the price data now."""
    _snapshot()
    _version()


def _bill(usage: Usage, tariff: _Tariff) -> Price:
    counts = _counts(usage)
    taken: dict[str, int] = {}
    sums: dict[str, Decimal] = {}
    for unit, rate in tariff.tokens:
        tokens = counts[unit.name]
        for name in unit.within:
            tokens -= taken.get(name, 0)
        if tokens < 0:
            return _unpriced(f"The usage counts more tokens within {unit.name} than it has.")
        taken[unit.name] = tokens
        if tokens:
            exact = _EXACT.multiply(rate, tokens)
            before = sums.get(unit.component)
            sums[unit.component] = exact if before is None else _EXACT.add(before, exact)
    # A rate is dollars for a million tokens, so a token's is a thousand times as many nanos.
    parts = {component: _rounded(exact, 3) for component, exact in sums.items()}
    if tariff.request is not None:
        parts["request"] = _rounded(tariff.request, 9)
    nanos = sum(parts.values())
    if not _holds(nanos):
        return _unpriced("The sum is beyond all that a call can cost.")
    return Price(
        status="priced",
        nanos=nanos,
        parts=parts,
        rates=dict(tariff.texts),
        source=_SOURCE,
        source_version=_version(),
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


def _nonsense(usage: Usage) -> str | None:
    """What is impossible about a usage, None for one that makes sense."""
    if believable(usage) is None:
        return "The usage has counts that are no whole numbers, or beyond all that a call can use."
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    if any(getattr(usage, name) < 0 for name in usage.__struct_fields__):
        return "The usage has negative counts."
    for inner, name, outer, whole in (
        (cached, "cached", usage.input, "input"),
        (usage.audio_in, "audio", usage.input, "input"),
        (usage.audio_out, "audio", usage.output, "output"),
        (usage.reasoning, "reasoning", usage.output, "output"),
    ):
        if inner > outer:
            return f"The usage counts {inner} {name} tokens among {outer} of {whole}."
    return None


def _holds(*amounts: object) -> bool:
    """Whether an event can hold them."""
    try:
        msgspec.convert(amounts, tuple[Amount, ...])
    except msgspec.ValidationError:
        return False
    return True


def _rounded(exact: Decimal, shift: int) -> int:
    return int(exact.scaleb(shift, _EXACT).to_integral_value(context=_EXACT))


def _unpriced(reason: str) -> Price:
    return Price("unpriced", source=_SOURCE, source_version=_version(), reason=reason)


class _Listed:
    """A model of the price data, with the tariffs it has had already worked out."""

    def __init__(self, info: ModelInfo, *, by_tier: bool) -> None:
        self.name = info.id
        self._info = info
        self._by_tier = by_tier
        self._known: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[_Tariff, ...]]] = {}
        prices = info.prices if isinstance(info.prices, list) else []
        self._constraints = _constraints(entry.constraint for entry in prices)
        variants = info.price_variants or []
        self._tier_constraints = _constraints(variant.constraint for variant in variants)

    def tariff(self, at: int, service_tier: str | None, input_tokens: int) -> _Tariff:
        """The rates at a time (nanoseconds UTC), for a request of so many tokens."""
        tier = service_tier if self._by_tier else None
        watched = self._constraints + (self._tier_constraints if tier else ())
        when = dt.datetime.fromtimestamp(at // _SECOND, dt.UTC) if watched else _ANY_DAY
        # Two times at which the same constraints hold have the same rates.
        key = (tier, *[constraint.active(when) for constraint in watched])
        known = self._known.get(key)
        if known is None:
            rates = self._info.get_prices(when, {"service_tier": tier} if tier else None)
            starts = _tier_starts(rates)
            sizes = (0, *[start + 1 for start in starts])
            known = (starts, tuple(_tariff(rates, size) for size in sizes))
            self._known[key] = known
        starts, tariffs = known
        return tariffs[bisect_left(starts, input_tokens)]


_ANY_DAY = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # for rates that no time changes


def _constraints(
    found: Iterable[StartDateConstraint | TimeOfDateConstraint | None],
) -> tuple[StartDateConstraint | TimeOfDateConstraint, ...]:
    return tuple(constraint for constraint in found if constraint is not None)


def _tier_starts(rates: ModelPrice) -> tuple[int, ...]:
    found = [getattr(rates, unit.key, None) for unit in _UNITS]
    return tuple(sorted({tier.start for rate in found for tier in getattr(rate, "tiers", ())}))


def _tariff(rates: ModelPrice, input_tokens: int) -> _Tariff:
    tokens = []
    texts = {}
    for unit in _UNITS:
        rate = getattr(rates, unit.key, None)
        if rate is None:
            continue
        if not isinstance(rate, Decimal):
            # The highest tier passed counts for all tokens, not only for those above it.
            passed = [tier.price for tier in rate.tiers if input_tokens > tier.start]
            rate = passed[-1] if passed else rate.base
        tokens.append((unit, rate))
        texts[unit.name] = _text(rate.scaleb(-6, _EXACT))
    request = getattr(rates, "requests_kcount", None)
    if isinstance(request, Decimal):
        request = request.scaleb(-3, _EXACT)
        texts["request"] = _text(request)
    return _Tariff(tuple(tokens), request, texts)


def _text(rate: Decimal) -> str:
    return f"{rate.normalize(_EXACT):f}"


@lru_cache(maxsize=4096)
def _find(provider: str, model: str) -> _Listed | None:
    """The model in the price data. A provider that is known there is taken at its word: another
    one's price for a model of the same name would be a guess."""
    snapshot = _snapshot()
    for candidate, name in _candidates(provider, model):
        try:
            owner, info = snapshot.find_provider_model(name, None, candidate, None)
        except LookupError:
            continue
        # As in genai-prices: the tiers of a model are those of its own provider.
        return _Listed(info, by_tier=any(info is own for own in owner.models))
    return None


def _candidates(provider: str, model: str) -> Iterator[tuple[str | None, str]]:
    known = _provider(provider)
    if known is not None:
        yield provider, model
    vendor, slash, name = model.partition("/")
    if slash and _provider(vendor) is not None and known in (None, _provider(vendor)):
        yield vendor, name
    if known is None:
        yield None, model


def _provider(name: str) -> str | None:
    try:
        return _snapshot().find_provider(None, name, None).id
    except LookupError:
        return None


@cache
def _snapshot() -> DataSnapshot:
    with importing():
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


@cache
def _version() -> str:
    with importing():
        from importlib.metadata import version

        return version("genai-prices")
