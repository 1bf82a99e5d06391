"""Looks up a model's rates in the price data that comes with genai-prices.

Finding a model in that data is the slowest step of pricing, so each model is found once, and its
rates are read once for each time and tier at which they differ. Nothing here uses the network: only
the installed data counts, even if the program tells genai-prices to download newer prices.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lllm.events.concurrency.late_imports import importing
from lllm.pricing.amounts import EXACT
from lllm.pricing.billing import COUNTED, UNITS, Tariff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TimeOfDateConstraint

SOURCE = "genai-prices"
_SECOND = 1_000_000_000  # nanoseconds
_ANY_DAY = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # for rates that do not depend on the time
# Each provider has its own word for what selects a tier: OpenAI's service tiers, Anthropic's
# batches and its fast mode.
_TIER_NAMES = ("service_tier", "processing", "speed")
# Providers without rates of their own; their models are priced as their makers price them. A
# gateway passes on its providers' prices; scripted calls and LiteLLM models without a prefix have
# only a model name.
BY_MODEL_NAME = frozenset(
    {"", "scripted", "litellm", "vercel", "portkey", "helicone", "cloudflare-ai-gateway"}
)


class Tariffs(NamedTuple):
    """A model's tariffs at one time, by the length of the request.

    Attributes:
        upto: The greatest number of input tokens for each tariff, except the last.
        by_length: The tariffs, from the shortest requests to the longest.
    """

    upto: tuple[int, ...]
    by_length: tuple[Tariff, ...]

    def of(self, input_tokens: int) -> Tariff:
        """Get the tariff for a request by its number of input tokens."""
        return self.by_length[bisect_left(self.upto, input_tokens)]


class Listed:
    """A model of the price data, and a cache of its tariffs.

    Args:
        info: The model as genai-prices has it.
        by_tier: True if the model's service tiers and fees are those of the provider that bills it;
            False if the model is priced as its maker prices it.
    """

    def __init__(self, info: ModelInfo, *, by_tier: bool) -> None:
        self.name = info.id
        self._info = info
        self._by_tier = by_tier
        self._known: dict[tuple[object, ...], Tariffs] = {}
        prices = info.prices if isinstance(info.prices, list) else []
        self._constraints = _constraints(entry.constraint for entry in prices)
        variants = info.price_variants or []
        self._tier_constraints = _constraints(variant.constraint for variant in variants)

    def tariffs(self, at: int, service_tier: str | None = None) -> Tariffs:
        """Get the rates at a time.

        Args:
            at: Nanoseconds UTC.
            service_tier: A tier for which `has_tier` is True; None or any other name is the default
                tier.

        Returns:
            The tariffs at that time.
        """
        tier = service_tier if self._by_tier else None
        watched = self._constraints + (self._tier_constraints if tier else ())
        when = dt.datetime.fromtimestamp(at // _SECOND, dt.UTC) if watched else _ANY_DAY
        # Two times that meet the same constraints have the same rates.
        key = (tier, *[constraint.active(when) for constraint in watched])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._tariffs_at(when, tier)
        return known

    def has_tier(self, at: int, service_tier: str | None) -> bool:
        """True if there are rates for a service tier at a time.

        Args:
            at: Nanoseconds UTC.
            service_tier: The tier, by its provider's name; None for the default one.
        """
        when = dt.datetime.fromtimestamp(at // _SECOND, dt.UTC)
        context = dict.fromkeys(_TIER_NAMES, service_tier)
        return self._by_tier and any(
            _active(variant.constraint, when) and variant.when.items() <= context.items()
            for variant in self._info.price_variants or []
        )

    def _tariffs_at(self, when: dt.datetime, tier: str | None) -> Tariffs:
        """Calculate the rates at a time."""
        context = dict.fromkeys(_TIER_NAMES, tier) if tier else {}
        rates = self._info.get_prices(when, context)
        effective = self._effective(when, context)
        found = [getattr(rates, unit.key, None) for unit in UNITS]
        starts = sorted({tier.start for rate in found for tier in getattr(rate, "tiers", ())})
        sizes = (0, *[start + 1 for start in starts])
        tariffs = (_tariff(rates, size, effective) for size in sizes)
        # A provider that serves another's model at its rates has its own tool fees, as Azure has.
        by_length = tuple(one if self._by_tier else one._replace(counted={}) for one in tariffs)
        return Tariffs(tuple(starts), by_length)

    def _effective(self, when: dt.datetime, context: dict[str, str]) -> str | None:
        """Find the date from which the rates of a time are valid, if the data has one."""
        prices = self._info.prices if isinstance(self._info.prices, list) else []
        used = [entry.constraint for entry in prices if _active(entry.constraint, when)][-1:]
        used += [
            variant.constraint
            for variant in self._info.price_variants or []
            if _active(variant.constraint, when) and variant.when.items() <= context.items()
        ]
        dates = [getattr(constraint, "start_date", None) for constraint in used]
        return max((date.isoformat() for date in dates if date is not None), default=None)


def _active(
    constraint: StartDateConstraint | TimeOfDateConstraint | None, when: dt.datetime
) -> bool:
    return constraint is None or constraint.active(when)


def _constraints(
    found: Iterable[StartDateConstraint | TimeOfDateConstraint | None],
) -> tuple[StartDateConstraint | TimeOfDateConstraint, ...]:
    return tuple(constraint for constraint in found if constraint is not None)


def _tariff(rates: ModelPrice, input_tokens: int, effective: str | None) -> Tariff:
    found = {}
    for unit in UNITS:
        rate = getattr(rates, unit.key, None)
        if rate is None:
            continue
        if not isinstance(rate, Decimal):
            # The highest tier reached applies to all tokens, not only to those above its limit.
            passed = [tier.price for tier in rate.tiers if input_tokens > tier.start]
            rate = passed[-1] if passed else rate.base
        found[unit.name] = rate
    request = getattr(rates, "requests_kcount", None)
    fee = request.scaleb(-3, EXACT) if isinstance(request, Decimal) else None
    counted = {}
    for name, kind in COUNTED.items():
        one = getattr(rates, kind.key, None)
        if isinstance(one, Decimal):
            counted[name] = EXACT.divide(one, Decimal(kind.per))
    return Tariff.of(found, fee, effective, counted=counted)


@lru_cache(maxsize=4096)
def find(provider: str, model: str) -> Listed | None:
    """Find a model in the price data.

    If the price data knows the provider, only its own models count: the price of another
    provider's model of the same name would be a guess.

    Args:
        provider: The provider that bills: a name of genai-prices, one of `BY_MODEL_NAME`, or a
            host.
        model: The model by the provider's name.

    Returns:
        The model; None if the data does not have it.
    """
    snapshot = _snapshot()
    for candidate, name in _candidates(provider, model):
        try:
            owner, info = snapshot.find_provider_model(name, None, candidate, None)
        except LookupError:
            continue
        # As in genai-prices, a model's tiers are those of its own provider.
        return Listed(info, by_tier=any(info is own for own in owner.models))
    return None


def _candidates(provider: str, model: str) -> Iterator[tuple[str | None, str]]:
    known = _provider(provider)
    if known is not None:
        yield known, model
    elif provider not in BY_MODEL_NAME:
        return  # an unknown provider: the model's name does not tell who bills
    vendor, slash, name = model.partition("/")
    if slash and _provider(vendor) is not None and known in (None, _provider(vendor)):
        yield vendor, name
    if known is None:
        yield None, model
        yield "openai", model  # OpenAI's embedding models can't be recognised by their names alone


def is_known(provider: str) -> bool:
    """True if lllm knows the provider that bills, so that prices can be looked up.

    Args:
        provider: A name of genai-prices, one of `BY_MODEL_NAME`, or a host.

    Returns:
        True if the provider is in the price data or in `BY_MODEL_NAME`.
    """
    return provider in BY_MODEL_NAME or _provider(provider) is not None


def _provider(name: str) -> str | None:
    """Find a provider's id in the price data, by its name or its host."""
    if name in BY_MODEL_NAME:
        return None
    try:
        if "." in name or ":" in name or name == "localhost":
            # A host, which may include the name of a provider.
            return _snapshot().find_provider(None, None, f"https://{name}").id
        return _snapshot().find_provider(None, name, None).id
    except LookupError:
        return None


def is_ready() -> bool:
    """True if the price data is loaded; loading it takes tenths of a second."""
    return _snapshot.cache_info().currsize > 0


def make_ready() -> None:
    """Load the price data now."""
    _snapshot()
    version()


def make_ready_aside() -> None:
    """Start to load the price data in a thread of the running event loop, unless it is loaded."""
    import asyncio

    if not is_ready():
        asyncio.get_running_loop().run_in_executor(None, make_ready)


@cache
def _snapshot() -> DataSnapshot:
    with importing():
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


@cache
def version() -> str:
    """The installed version of the price data."""
    with importing():
        from importlib.metadata import version as version_of

        return version_of(SOURCE)
