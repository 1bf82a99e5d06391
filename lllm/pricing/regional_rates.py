"""Handles rates that depend on a region: regional hosts, and Bedrock's inference profiles.

The price data does not say which models cost more in a region, so regional calls are never priced
by the default rates. An answer of Amazon Bedrock names only the model
("claude-haiku-4-5-20251001"), but the rates depend on the requested inference profile: a global one
("global.anthropic...") is a tenth cheaper than a regional one ("us.anthropic..."), and an ARN may
refer to any of them:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
"""

from __future__ import annotations

import re
from decimal import Decimal

_REGIONS = {
    # 10% more for models released since 2026-03-05:
    # https://developers.openai.com/api/docs/guides/data-residency
    "openai": re.compile(r".+\.api\.openai\.com"),
    # 10% more for regional and multi-region endpoints; the global endpoint names no region:
    # https://cloud.google.com/vertex-ai/generative-ai/pricing
    "google": re.compile(r".+-aiplatform\.googleapis\.com|aiplatform\..+\.rep\.googleapis\.com"),
    # https://docs.x.ai/developers/advanced-api-usage/regions
    "x-ai": re.compile(r".+\.api\.x\.ai"),
    # 25% more: https://docs.together.ai/docs/serverless/geo-specific-inference
    "together": re.compile(r".+-api\.together\.ai"),
}
# Neither the address nor the answer tells whether an Azure deployment is global, as the listed
# rates assume, or belongs to a region or a data zone, which mostly cost 10% more:
# https://learn.microsoft.com/azure/ai-services/openai/how-to/deployment-types
ASSUMED = {
    "azure": "The rates are those of a global deployment; Azure does not tell which type it is. "
    "If it is another type, give your rates as `prices=`.",
}
# Factors for `inference_geo` in Anthropic's usage: inference only in the US costs 10% more for
# all tokens: https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
GEOS = {
    None: Decimal(1), "": Decimal(1), "global": Decimal(1), "not_available": Decimal(1),
    "us": Decimal("1.1"),
}  # fmt: skip
# Resources whose ARN ends with the name of a model, or of one of Amazon's own profiles.
_NAMED = ("foundation-model", "inference-profile")


def dearer_region(provider: str, host: str | None, region: str | None = None) -> str | None:
    """Find out whether a provider charges more in the region of a call.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        host: The host that the request was sent to; many regions have hosts of their own.
        region: The region in the path of the address, as Vertex has it; None if there is none.

    Returns:
        The region and the reason, as the end of a sentence; None if the default rates apply.
    """
    pattern = _REGIONS.get(provider)
    if pattern is not None and host is not None and pattern.fullmatch(host.lower()):
        return f"{host}, where some models cost more"
    if provider == "google" and region not in (None, "global"):
        return f"{region}, where some models cost more"
    return None


def billed_names(provider: str, model: str, asked: str | None) -> tuple[str, ...]:
    """List the model names whose rates may apply to a call, the best match first.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        model: The model that answered.
        asked: The model that was requested; None if only one name is known.

    Returns:
        Model names. Empty if the requested resource is not billed by its model, or is a profile of
        the user's own, whose rates can't be known.
    """
    if provider != "aws" or asked is None:
        return (model,)
    name = asked
    if asked.startswith("arn:"):
        place, _, name = asked.partition("/")
        if place.rpartition(":")[2] not in _NAMED:
            return ()
    # For a profile that is not listed, the model's own rates are those of a region.
    return (name,) if name == model or "global." in name else (name, model)


def made_elsewhere(provider: str, model: str) -> tuple[str, str] | None:
    """Find the maker of a model on Bedrock, and the maker's own name for the model.

    Args:
        provider: The provider that bills, by its name in genai-prices.
        model: The model by the provider's name.

    Returns:
        A provider and a model; None unless the provider is Amazon and the maker is Anthropic.
    """
    _, found, name = model.rpartition("anthropic.")
    if provider != "aws" or not (found or model.startswith("claude")):
        return None
    return "anthropic", name
