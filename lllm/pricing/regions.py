"""Hosts of a region, where a model may cost more than elsewhere.

Which models do is not in the price data, so nothing is priced there by the plain rates.
"""

from __future__ import annotations

import re

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
_ASSUMED = {
    "azure": "The rates are those of a global deployment; Azure does not tell which type it is. "
    "Where it is another, `prices=` has yours.",
}


def assumed(provider: str) -> str | None:
    """What the rates of a provider take for granted, as a sentence; None where they don't."""
    return _ASSUMED.get(provider)


def dearer_region(provider: str, host: str | None, region: str | None = None) -> str | None:
    """The region in which a provider charges more, and why, as the end of a sentence; None where
    it does not.

    Args:
        provider: Who bills, as genai-prices names it.
        host: Where it was asked; the region is told by it.
        region: What the path of the address names, as that of Vertex does behind any host.
    """
    pattern = _REGIONS.get(provider)
    if pattern is not None and host is not None and pattern.fullmatch(host.lower()):
        return f"{host}, where some models cost more"
    if provider == "google" and region not in (None, "global"):
        return f"{region}, where some models cost more"
    return None
