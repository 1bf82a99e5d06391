"""Prices an attempt by the price data, or says why it can't be priced.

The rates may depend on the time, the service tier, the length of the request and the region. If
anything in the attempt has no price in the data, the whole attempt is unpriced, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from lllm.events.model import Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.attempt_usage import AttemptUsage
from lllm.pricing.billing import Sampling, Tariff, bill_all
from lllm.pricing.genai_prices import Listed, NoRateError
from lllm.pricing.regional_rates import ASSUMED, GEOS, billed_names, dearer_region, made_elsewhere
from lllm.pricing.service_tiers import rates_of_tier, tariffs_of_tier

_WHO_BILLS = (
    ' Where a provider bills it all the same, name it: capture(client, provider="openai"), the key '
    '"provider" of an agent\'s config, OpenAIInvoker(provider=...), or LLLM_PROVIDER.'
)


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
        raise _unlisted(provider, model)
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
    fault = _without_a_price(usage, found, tariff) or used.uncounted_kind(usage, tariff)
    if fault is None and is_short:
        fault = _dearer_when_long(provider, model, at, usage.input)
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
    if listed is None or tariff is None or _without_a_price(usage, listed, tariff) is not None:
        raise NoRateError(f"lists no model {model!r}, which advised in this answer")
    return tariff


def _dearer_when_long(provider: str, model: str, at: int, tokens: int) -> str | None:
    """Explain that the maker of a model charges more for long requests than these rates do.

    https://aws.amazon.com/bedrock/pricing/ has rates for long contexts; the price data does not.
    """
    maker = made_elsewhere(provider, model)
    own = genai_prices.find(*maker) if maker else None
    if own is None or own.tariffs(at).of(tokens) == own.tariffs(at).by_length[0]:
        return None
    return f"has no rates for long requests of {model}, for which its maker charges more"


def _without_a_price(usage: Usage, found: Listed, tariff: Tariff) -> str | None:
    """Find a basic kind of token in a usage that has no rate; None if all have one."""
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return f"lists {found.name} without a price for tokens"
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return f"lists {found.name} without a price for {name} tokens"
    return None


def _unlisted(provider: str, model: str) -> NoRateError:
    """Explain that the price data does not have a model."""
    whose = f" of provider {provider!r}" if provider else ""
    # A well-known model at an unknown address: the user has to say who bills.
    is_famous = not genai_prices.is_known(provider) and genai_prices.find("", model) is not None
    return NoRateError(f"lists no model {model!r}{whose}", model, _WHO_BILLS if is_famous else "")
