"""What one attempt cost, and who says so.

The first of these that has something to say: the caller who knows that it was free, the user's own
prices, the provider that bills it, the machine of one's own that it ran on, and the price data that
genai-prices brings along. What can't be priced says why, and what to do about it; it is never zero,
and never priced as if a part of it had cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from lllm.events.model import Content, Price, Usage
from lllm.pricing import genai_prices
from lllm.pricing.billing import (
    Charges,
    Sampling,
    Tariff,
    bill_all,
    fits_event,
    validation_error,
)
from lllm.pricing.charges import charges_of
from lllm.pricing.genai_prices import Listed
from lllm.pricing.inference_profiles import billed_names, made_elsewhere
from lllm.pricing.local_models import why_free
from lllm.pricing.priced_requests import NOTHING, Sent, untold_tier
from lllm.pricing.regions import assumed, dearer_region
from lllm.pricing.usage import SampledUsage, samplings_of, unreadable
from lllm.pricing.usage_details import INWARD, OUTWARD, traffic_of, with_details
from lllm.pricing.user_prices import PriceTable

# Inference in the US alone costs a tenth more of all tokens:
# https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
_GEOS = {
    None: Decimal(1), "": Decimal(1), "global": Decimal(1), "not_available": Decimal(1),
    "us": Decimal("1.1"),
}  # fmt: skip


def price(
    usage: Usage | None,
    *,
    provider: str,
    model: str,
    at: int,
    service_tier: str | None = None,
    billed: int | None = None,
    free: str | None = None,
    prices: PriceTable | None = None,
    asked: str | None = None,
    usage_raw: object = None,
    content: Content | None = None,
    host: str | None = None,
    port: int | None = None,
    region: str | None = None,
    sent: Sent = NOTHING,
) -> Price:
    """The price of one attempt.

    provider, model: as the event names them. A model of a provider that genai-prices has not heard
    of is unpriced, but for a gateway, a scripted model and a provider of "", which are told by the
    model's name, "openai/gpt-4o-mini" included.
    at: when the attempt began, nanoseconds UTC; rates change with the date and the time of day.
    service_tier: as the provider sent it ("flex", "priority", "batch", or "fast" for Anthropic's
    fast mode), which must have rates of its own.
    billed: nano-dollars that the provider itself says it cost.
    free: why it cost nothing, None where it did not.
    prices: the user's own, None for none; they win over all but `free`.
    asked: the model asked for, where another name answered; the user's prices may go by it, and
    those of Bedrock do.
    usage_raw: the usage as the provider sent it; what has a price in it that nobody knows makes the
    attempt unpriced.
    content: the answer, in which the calls of tools stand that the provider bills.
    host, port, region: where it was asked; a region may have other prices, a local model has none.
    sent: what was asked for that has a price of its own, which the answer must account for.

    The same call prices recorded usage anew: without billed and free, with other prices, or as
    another model of provider "". Never raises; "unpriced" comes with its reason.
    """
    if free is not None:
        return Price("free", nanos=0, reason=free)
    charges = charges_of(usage, usage_raw, content, model)
    if prices is not None:
        fees = _fees(provider, model, at) if charges.counts else {}
        own = prices.price(
            usage, provider=provider, model=model, asked=asked, charges=charges, fees=fees
        )
        if own is not None:
            return own
    if billed is not None and billed >= 0 and fits_event(billed):
        return Price("provider", nanos=billed, source=provider)
    local = why_free(provider, model, host=host, port=port)
    if local is not None:
        return Price("free", nanos=0, reason=local)
    if usage is None:
        return Price("unpriced", reason=unreadable(usage_raw))
    nonsense = validation_error(usage)
    if nonsense is not None:
        return Price("unpriced", reason=nonsense)
    names = billed_names(provider, model, asked)
    if not names:
        return _unpriced(f"does not know what {asked!r} stands for, and so not its rates", model)
    listed = (name for name in names if genai_prices.find(provider, name) is not None)
    dearer = dearer_region(provider, host, region)
    return _listed(
        _Use(usage, usage_raw, charges, content, sent),
        provider, next(listed, model), at, service_tier, dearer,
    )  # fmt: skip


class _Use:
    """What one attempt used."""

    def __init__(
        self,
        usage: Usage,
        raw: object,
        charges: Charges,
        content: Content | None,
        sent: Sent,
    ) -> None:
        self.usage = usage
        self.charges = charges
        self.geo = raw.get("inference_geo") if isinstance(raw, dict) else None
        self.sent = sent
        self.traffic = traffic_of(raw)
        self._raw = with_details(raw)
        self._kinds = {part.kind for part in content.parts} if content else set()

    def samplings(self) -> tuple[list[SampledUsage], bool]:
        """See `samplings_of`; all of one that asked once is known."""
        samplings, known = samplings_of(self.usage, self._raw)
        return samplings, known or not (self.charges.hosted or len(samplings) > 1)

    def untold(self, tariff: Tariff) -> str | None:
        """A kind of output that has a rate of its own, and that the usage does not count."""
        text = tariff.rate("output")
        image = tariff.rate("image_out")
        if image not in (None, text) and self.usage.output and not self._counts("image_tokens"):
            return "does not say how many of the tokens that came out are an image's"
        audio = tariff.rate("audio_out")
        if audio not in (None, text) and "audio" in self._kinds and not self.usage.audio_out:
            return "does not say how many of the tokens that came out are audio"
        return self._untold_media(tariff)

    def _untold_media(self, tariff: Tariff) -> str | None:
        """The same of what went in."""
        plain = tariff.rate("input")
        for kind in self.sent.media:
            own = tariff.rate(f"{kind}_in")
            is_counted = self._counts(f"{kind}_tokens", "in") or not self.usage.input
            if own not in (None, plain) and not is_counted:
                return f"does not say how many of the tokens that went in are {_MEDIA[kind]}"
            unit = _BY_SIZE.get(kind, "")  # Mistral bills audio by the second, beside its tokens
            if unit in tariff.counted and unit not in self.charges.counts:
                return f"does not say how much there was of the {kind} that went in"
        return None

    def untold_tier(self, answered: str | None) -> str | None:
        """See `lllm.pricing.priced_requests`."""
        return untold_tier(self.sent, answered, self._raw)

    def _counts(self, name: str, way: Literal["in", "out"] = "out") -> bool:
        raw = self._raw if isinstance(self._raw, dict) else {}
        places = [raw.get(name) for name in (INWARD if way == "in" else OUTWARD)]
        return any(isinstance(place, dict) and place.get(name) is not None for place in places)


def _listed(
    use: _Use, provider: str, model: str, at: int, tier: str | None, region: str | None
) -> Price:
    """By the price data."""
    found = genai_prices.find(provider, model)
    if found is None:
        whose = f" of provider {provider!r}" if provider else ""
        # A famous name at an unknown place needs somebody to say who bills there.
        famous = not genai_prices.is_known(provider) and genai_prices.find("", model) is not None
        more = _WHO_BILLS if famous else ""
        return _unpriced(f"lists no model {model!r}{whose}", model, more)
    tier = tier or use.traffic
    fault = _unlisted(use, found, at, tier, region)
    if fault is not None:
        return _unpriced(fault, model)
    factor = _GEOS.get(use.geo if isinstance(use.geo, str) else None)
    if factor is None:
        return _unpriced(f"has no rates for inference_geo {use.geo!r}", model)
    try:
        samplings, known = use.samplings()
    except ValueError as error:
        return _unpriced(f"has no rate for {error}", model)
    tariff = found.tariff(at, tier, use.usage.input)
    if not known and tariff != found.tariff(at, tier, 0):
        return _unpriced(
            f"has other rates for long requests of {found.name}, and nobody says how long each of "
            "the requests was that this answer took",
            model,
        )
    fault = _without_a_price(use.usage, found, tariff) or use.untold(tariff)
    if fault is None and tariff == found.tariff(at, tier, 0):
        fault = _dearer_when_long(provider, model, at, use.usage.input)
    if fault is not None:
        return _unpriced(fault, model)
    priced = _tariffs(samplings, found, provider, at, tier, factor)
    if isinstance(priced, str):
        return _unpriced(f"lists no model {priced!r}, which advised in this answer", model)
    version = genai_prices.version()
    made = bill_all(priced, source=genai_prices.SOURCE, version=version, charges=use.charges)
    taken = assumed(provider)
    return msgspec.structs.replace(made, reason=taken) if taken and made.reason is None else made


def _dearer_when_long(provider: str, model: str, at: int, tokens: int) -> str | None:
    """That a long request costs more where a model comes from, for a provider whose rates the data
    lists without that: https://aws.amazon.com/bedrock/pricing/ has it for long contexts."""
    maker = made_elsewhere(provider, model)
    own = genai_prices.find(*maker) if maker else None
    if own is None or own.tariff(at, None, tokens) == own.tariff(at, None, 0):
        return None
    return f"has no rates for long requests of {model}, which cost more with its maker"


def _unlisted(
    use: _Use, found: Listed, at: int, tier: str | None, region: str | None
) -> str | None:
    """What in a call has a price that the data does not know, as the end of a sentence."""
    if use.charges.unknown:
        return f"has no rate for {use.charges.unknown[0]}"
    untold = use.untold_tier(tier)
    if untold is not None:
        return (
            f"can't tell the rates: the service tier {untold!r} was asked for, and the answer does "
            "not say which one it was given"
        )
    if not found.has_tier(at, tier):
        return f"lists {found.name} without a price for the service tier {tier!r}"
    return None if region is None else f"has no rates of {region}"


def _tariffs(
    samplings: Sequence[SampledUsage],
    found: Listed,
    provider: str,
    at: int,
    tier: str | None,
    factor: Decimal,
) -> list[Sampling] | str:
    """Each sampling with its rates; the name of a model that has none."""
    priced = []
    for asked in samplings:
        listed = found if asked.model is None else genai_prices.find(provider, asked.model)
        if listed is None or not listed.has_tier(at, tier):
            return str(asked.model)
        tariff = listed.tariff(at, tier, asked.usage.input)
        if _without_a_price(asked.usage, listed, tariff) is not None:
            return str(asked.model)
        priced.append(Sampling(asked.usage, tariff if factor == 1 else tariff.times(factor)))
    return priced


def _without_a_price(usage: Usage, found: Listed, tariff: Tariff) -> str | None:
    names = tariff.texts
    if "input" not in names and "output" not in names:
        return f"lists {found.name} without a price for tokens"
    for name, tokens in (("input", usage.input), ("output", usage.output)):
        if tokens and name not in names:
            return f"lists {found.name} without a price for {name} tokens"
    return None


def _fees(provider: str, model: str, at: int) -> Mapping[str, Decimal]:
    """What the price data knows of a model beside its tokens."""
    found = genai_prices.find(provider, model)
    return {} if found is None else found.tariff(at, None, 0).counted


_MEDIA = {"audio": "audio", "image": "an image's", "video": "a film's"}
_BY_SIZE = {"audio": "input_audio_seconds", "image": "input_pixels"}
_WHO_BILLS = (
    ' Where a provider bills it all the same, name it: capture(client, provider="openai"), the key '
    '"provider" of an agent\'s config, OpenAIInvoker(provider=...), or LLLM_PROVIDER.'
)


def _unpriced(fault: str, model: str, more: str = "") -> Price:
    version = genai_prices.version()
    return Price(
        "unpriced",
        source=genai_prices.SOURCE,
        source_version=version,
        reason=f"{genai_prices.SOURCE} {version} {fault}. Say what it costs with "
        f'LogStore(..., prices={{{model!r}: {{"input": ..., "output": ...}}}}) in US dollars for a '
        f"million tokens, or 0 where it costs nothing.{more}",
    )
