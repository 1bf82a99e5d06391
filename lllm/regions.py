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
    # A deployment of a region or a data zone has meters of its own, most a tenth dearer than those
    # of a global one, and neither the address nor an answer says which it is:
    # https://learn.microsoft.com/azure/ai-services/openai/how-to/deployment-types
    # https://azure.microsoft.com/pricing/details/cognitive-services/openai-service/
    "azure": re.compile(
        r".+\.(?:openai\.azure\.com|(?:services\.ai|cognitiveservices)\.azure\.com|azure-api\.net)"
    ),
}
_SOME = "where some models cost more"
_WHY = {
    "azure": "which don't say whether a deployment is a global one, or a dearer one of a region or "
    "a data zone",
}


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
        return f"{host}, {_WHY.get(provider, _SOME)}"
    if provider == "google" and region not in (None, "global"):
        return f"{region}, {_SOME}"
    return None
