"""What an attempt costs by the price data, or why nobody can say it.

The rates may depend on the time, the service tier, the length of the request and the place. What
has a price that the data does not know makes the whole attempt unpriced, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from lllm.events.model import Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.attempt_usage import AttemptUsage
from lllm.pricing.billing import Sampling, Tariff, bill_all
from lllm.pricing.genai_prices import Listed
from lllm.pricing.regional_rates import ASSUMED, GEOS, billed_names, dearer_region, made_elsewhere
from lllm.pricing.usage import SampledUsage

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
        used: What the attempt used.
        usage: The valid usage in it.
        provider: Who bills, as genai-prices names it.
        model: The one that answered.
        asked: The one asked for, None where that is not known.
        at: When the attempt began, nanoseconds UTC.
        service_tier: As the provider sent it.
        host: Where the call went.
        region: What the path of the address names.

    Returns:
        The price; "unpriced", with the reason, where the data does not say it.
    """
    names = billed_names(provider, model, asked)
    if not names:
        return _unpriced(f"does not know what {asked!r} stands for, and so not its rates", model)
    for name in names:
        found = genai_prices.find(provider, name)
        if found is not None:
            break
    else:
        return _unlisted(provider, model)
    tier = service_tier or used.traffic
    try:
        _check_extras(used, found, at, tier, dearer_region(provider, host, region))
        samplings = _samplings(used, usage, found, provider, name, at, tier)
    except _NoRateError as error:
        return _unpriced(str(error), name)
    version = genai_prices.version()
    made = bill_all(samplings, source=genai_prices.SOURCE, version=version, charges=used.charges)
    taken = ASSUMED.get(provider)
    return msgspec.structs.replace(made, reason=taken) if taken and made.reason is None else made


def listed_fees(provider: str, model: str, at: int) -> Mapping[str, Decimal]:
    """Look up what the price data knows of a model beside its tokens.

    Args:
        provider: Who bills, as genai-prices names it.
        model: The one that answered.
        at: When it was asked, nanoseconds UTC.

    Returns:
        US dollars for one of each, by the unit's name in genai-prices.
    """
    found = genai_prices.find(provider, model)
    return {} if found is None else found.tariff(at, None, 0).counted


class _NoRateError(LookupError):
    """Something in a call has a price that the data does not know; a sentence's end says what."""


def _check_extras(
    used: AttemptUsage, found: Listed, at: int, tier: str | None, region: str | None
) -> None:
    """Raise _NoRateError for what no rate of a model can be right for, however it was used."""
    if used.charges.unknown:
        raise _NoRateError(f"has no rate for {used.charges.unknown[0]}")
    asked = used.unconfirmed_tier(tier)
    if asked is not None:
        raise _NoRateError(
            f"can't tell the rates: the service tier {asked!r} was asked for, and the answer does "
            "not say which one it was given"
        )
    if not found.has_tier(at, tier):
        raise _NoRateError(f"lists {found.name} without a price for the service tier {tier!r}")
    if region is not None:
        raise _NoRateError(f"has no rates of {region}")


def _samplings(
    used: AttemptUsage,
    usage: Usage,
    found: Listed,
    provider: str,
    model: str,
    at: int,
    tier: str | None,
) -> list[Sampling]:
    """Look up the rates of all that an attempt used. Raises _NoRateError where one lacks."""
    factor = GEOS.get(used.geo if isinstance(used.geo, str) else None)
    if factor is None:
        raise _NoRateError(f"has no rates for inference_geo {used.geo!r}")
    try:
        samplings, known = used.samplings(usage)
    except ValueError as error:
        raise _NoRateError(f"has no rate for {error}") from None
    tariff, short = found.tariff(at, tier, usage.input), found.tariff(at, tier, 0)
    if not known and tariff != short:
        raise _NoRateError(
            f"has other rates for long requests of {found.name}, and nobody says how long each of "
            "the requests was that this answer took"
        )
    fault = _without_a_price(usage, found, tariff) or used.uncounted_kind(usage, tariff)
    if fault is None and tariff == short:
        fault = _dearer_when_long(provider, model, at, usage.input)
    if fault is not None:
        raise _NoRateError(fault)
    priced = _with_tariffs(samplings, found, provider, at, tier)
    if factor == 1:
        return priced
    return [one._replace(tariff=one.tariff.times(factor)) for one in priced]


def _with_tariffs(
    samplings: Sequence[SampledUsage], found: Listed, provider: str, at: int, tier: str | None
) -> list[Sampling]:
    """Look up each sampling's rates. Raises _NoRateError for an advisor's model without any."""
    priced = []
    for sampled in samplings:
        model, usage = sampled
        listed = found if model is None else genai_prices.find(provider, model)
        if listed is not None and listed.has_tier(at, tier):
            tariff = listed.tariff(at, tier, usage.input)
            if model is None or _without_a_price(usage, listed, tariff) is None:
                priced.append(Sampling(usage, tariff))
                continue
        raise _NoRateError(f"lists no model {model!r}, which advised in this answer")
    return priced


def _dearer_when_long(provider: str, model: str, at: int, tokens: int) -> str | None:
    """Tell that a long request costs more with the maker of a model than this provider's rates say.

    https://aws.amazon.com/bedrock/pricing/ has rates for long contexts, and the data has not.
    """
    maker = made_elsewhere(provider, model)
    own = genai_prices.find(*maker) if maker else None
    if own is None or own.tariff(at, None, tokens) == own.tariff(at, None, 0):
        return None
    return f"has no rates for long requests of {model}, which cost more with its maker"


def _without_a_price(usage: Usage, found: Listed, tariff: Tariff) -> str | None:
    """Tell which of a usage's plain tokens has no rate; None where all have one."""
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return f"lists {found.name} without a price for tokens"
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return f"lists {found.name} without a price for {name} tokens"
    return None


def _unlisted(provider: str, model: str) -> Price:
    """Say that the price data has no such model."""
    whose = f" of provider {provider!r}" if provider else ""
    # A famous name at an unknown place needs somebody to say who bills there.
    is_famous = not genai_prices.is_known(provider) and genai_prices.find("", model) is not None
    return _unpriced(
        f"lists no model {model!r}{whose}", model, more=_WHO_BILLS if is_famous else ""
    )


def _unpriced(fault: str, model: str, more: str = "") -> Price:
    """Say why the price data can't price an attempt, and what the user can do about it."""
    version = genai_prices.version()
    return Price(
        "unpriced",
        source=genai_prices.SOURCE,
        source_version=version,
        reason=f"{genai_prices.SOURCE} {version} {fault}. Say what it costs with "
        f'LogStore(..., prices={{{model!r}: {{"input": ..., "output": ...}}}}) in US dollars for a '
        f"million tokens, or 0 where it costs nothing.{more}",
    )
