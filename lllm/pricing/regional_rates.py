"""Handles rates that depend on a region: regional hosts, and Bedrock's inference profiles.

Which models cost more in a region is not in the price data, so nothing is priced there by the plain
rates. An answer of Amazon Bedrock names the model alone ("claude-haiku-4-5-20251001"), but the
rates are those of what was asked for: a profile that may answer from anywhere
("global.anthropic...") is a tenth cheaper than one of a region ("us.anthropic..."), and an ARN may
stand for anything:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
"""

from __future__ import annotations

import re
from decimal import Decimal

_REGIONS = {
    # A tenth more for models released since 2026-03-05:
    # https://developers.openai.com/api/docs/guides/data-residency
    "openai": re.compile(r".+\.api\.openai\.com"),
    # A tenth more for regional and multi-region endpoints; the global one has no region:
    # https://cloud.google.com/vertex-ai/generative-ai/pricing
    "google": re.compile(r".+-aiplatform\.googleapis\.com|aiplatform\..+\.rep\.googleapis\.com"),
    # https://docs.x.ai/developers/advanced-api-usage/regions
    "x-ai": re.compile(r".+\.api\.x\.ai"),
    # A quarter more: https://docs.together.ai/docs/serverless/geo-specific-inference
    "together": re.compile(r".+-api\.together\.ai"),
}
# Of a deployment neither the address nor an answer says whether it is a global one, which the
# listed rates are for, or one of a region or a data zone, most of which cost a tenth more:
# https://learn.microsoft.com/azure/ai-services/openai/how-to/deployment-types
ASSUMED = {
    "azure": "The rates are those of a global deployment; Azure does not tell which type it is. "
    "Where it is another, `prices=` has yours.",
}
# Factors for `inference_geo` in Anthropic's usage: inference in the US alone costs a tenth more of
# all tokens: https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
GEOS = {
    None: Decimal(1), "": Decimal(1), "global": Decimal(1), "not_available": Decimal(1),
    "us": Decimal("1.1"),
}  # fmt: skip
# Resources whose ARN ends with the name of a model or of a profile of Amazon's own.
_NAMED = ("foundation-model", "inference-profile")


def dearer_region(provider: str, host: str | None, region: str | None = None) -> str | None:
    """True if a provider charges more in the region of a call.

    Args:
        provider: Who bills, as genai-prices names it.
        host: Where the call went; many regions have hosts of their own.
        region: What the path of the address names, as that of Vertex does behind any host.

    Returns:
        The region and why, as the end of a sentence; None where the plain rates count.
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
        provider: Who bills, as genai-prices names it.
        model: The one that answered.
        asked: The one asked for, None where only one name is known.

    Returns:
        Names of models; none where what was asked for is billed in another way than by its model,
        or is a profile of the user's own, which does not tell its rates.
    """
    if provider != "aws" or asked is None:
        return (model,)
    name = asked
    if asked.startswith("arn:"):
        place, _, name = asked.partition("/")
        if place.rpartition(":")[2] not in _NAMED:
            return ()
    # Of a profile that is not listed the model's own rates are a region's.
    return (name,) if name == model or "global." in name else (name, model)


def made_elsewhere(provider: str, model: str) -> tuple[str, str] | None:
    """The maker of a model on Bedrock, and the maker's own name for the model.

    Args:
        provider: Who bills, as genai-prices names it.
        model: The model as the provider calls it.

    Returns:
        A provider and a model; None for other providers than Amazon, and makers than Anthropic.
    """
    _, found, name = model.rpartition("anthropic.")
    if provider != "aws" or not (found or model.startswith("claude")):
        return None
    return "anthropic", name
