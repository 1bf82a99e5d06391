"""Prices an attempt by the price data.

The rates may depend on the time, the service tier, the length of the request and the region. If one
of them is missing, `lllm.pricing.why_unpriced` says why the attempt has no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from lllm.events.model import Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.attempt_usage import AttemptUsage
from lllm.pricing.billing import Sampling, Tariff, bill_all
from lllm.pricing.genai_prices import Listed
from lllm.pricing.regional_rates import ASSUMED, GEOS, billed_names, dearer_region
from lllm.pricing.service_tiers import rates_of_tier, tariffs_of_tier
from lllm.pricing.why_unpriced import NoRateError, dearer_when_long, missing_rate, unlisted


def listed_price(
    used: AttemptUsage,
    usage: Usage,
    *,
    provider: str,
    model: str,
    asked: str | None,
    at: int,
    service_tier: str | None,
    host: str | None,
    region: str | None,
) -> Price:
    """Price an attempt by the price data; see `lllm.pricing.price.price`.

    Args:
        used: The usage of the attempt, with everything else that its price depends on.
        usage: The valid usage in `used`.
        provider: The provider that bills, by its name in genai-prices.
        model: The model that answered.
        asked: The model that was requested; None if unknown.
        at: The time at which the attempt began, nanoseconds UTC.
        service_tier: The service tier by the provider's name; None for the default one.
        host: The host that the request was sent to; None if unknown.
        region: The region in the path of the address; None if there is none.

    Returns:
        The price.

    Raises:
        NoRateError: The data has no price for something in the attempt.
    """
    names = billed_names(provider, model, asked)
    if not names:
        raise NoRateError(f"does not know what {asked!r} stands for, and so not its rates", model)
    for name in names:
        found = genai_prices.find(provider, name)
        if found is not None:
            break
    else:
        raise unlisted(provider, model)
    tier = service_tier or used.tier
    try:
        samplings = _samplings(
            used, usage, found, at, tier,
            provider=provider, model=name, region=dearer_region(provider, host, region),
        )  # fmt: skip
    except NoRateError as error:
        error.model = name
        raise
    version = genai_prices.version()
    made = bill_all(samplings, source=genai_prices.SOURCE, version=version, charges=used.charges)
    taken = ASSUMED.get(provider)
    return msgspec.structs.replace(made, reason=taken) if taken and made.reason is None else made


def listed_fees(provider: str, model: str, at: int) -> Mapping[str, Decimal]:
    """Look up a model's fees for items other than tokens.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        model: The model that answered.
        at: The time of the request, nanoseconds UTC.

    Returns:
        US dollars for one item, by the unit's name in genai-prices.
    """
    found = genai_prices.find(provider, model)
    return {} if found is None else found.tariffs(at).by_length[0].counted


def _samplings(
    used: AttemptUsage,
    usage: Usage,
    found: Listed,
    at: int,
    tier: str | None,
    *,
    provider: str,
    model: str,
    region: str | None,
) -> list[Sampling]:
    """Look up the rates of each sampling of an attempt; raises NoRateError if one is missing."""
    if used.charges.unknown:
        raise NoRateError(f"has no rate for {used.charges.unknown[0]}")
    tariffs = rates_of_tier(found, at, asked=used.sent.tier, answered=tier, speed=used.speed)
    if region is not None:
        raise NoRateError(f"has no rates of {region}")
    factor = GEOS.get(used.geo if isinstance(used.geo, str) else None)
    if factor is None:
        raise NoRateError(f"has no rates for inference_geo {used.geo!r}")
    try:
        samplings, known = used.samplings(usage)
    except ValueError as error:
        raise NoRateError(f"has no rate for {error}") from None
    tariff = tariffs.of(usage.input)
    is_short = tariff == tariffs.by_length[0]
    if not known and not is_short:
        raise NoRateError(
            f"has other rates for long requests of {found.name}, and the length of each of the "
            "requests behind this answer is unknown"
        )
    fault = missing_rate(usage, found, tariff) or used.uncounted_kind(usage, tariff)
    if fault is None and is_short:
        fault = dearer_when_long(provider, model, at, usage.input)
    if fault is not None:
        raise NoRateError(fault)
    billed = [
        Sampling(
            part, tariffs.of(part.input) if of is None else _advisors(provider, of, part, at, tier)
        )
        for of, part in samplings
    ]
    return (
        billed if factor == 1 else [one._replace(tariff=one.tariff.times(factor)) for one in billed]
    )


def _advisors(provider: str, model: str, usage: Usage, at: int, tier: str | None) -> Tariff:
    """Look up the rates of the advisor, a second model that helped with an answer."""
    listed = genai_prices.find(provider, model)
    tariffs = None if listed is None else tariffs_of_tier(listed, at, tier)
    tariff = None if tariffs is None else tariffs.of(usage.input)
    if listed is None or tariff is None or missing_rate(usage, listed, tariff) is not None:
        raise NoRateError(f"lists no model {model!r}, which advised in this answer")
    return tariff
