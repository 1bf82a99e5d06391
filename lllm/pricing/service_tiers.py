"""Service tiers: which one was asked for and given, and the rates of it, or why there are none.

A tier ("flex", "priority", "batch", or "fast" for Anthropic's fast mode) has other rates than the
plain one. Where the price data has none of it, or nobody says which one was given, the attempt is
unpriced.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.pricing.genai_prices import Listed, NoRateError, Tariffs

# What is billed as if no tier was named. Groq's plain tier is "on_demand", "auto" is an echo, and
# "standard_only" is Anthropic's: https://platform.claude.com/docs/en/api/service-tiers
_PLAIN_TIERS = (None, "", "auto", "default", "standard", "standard_only", "on_demand")
# Bedrock and Vertex bill what these headers ask for at other rates, or not by the token at all:
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
# https://cloud.google.com/vertex-ai/generative-ai/docs/provisioned-throughput/use-provisioned-throughput
# By who bills: the names, and what is billed as if it were not there.
_HEADERS = {
    "aws": {
        "x-amzn-bedrock-service-tier": "default",
        "x-amzn-bedrock-performanceconfig-latency": "standard",
    },
    "google": {
        "x-vertex-ai-llm-request-type": "shared",
        "x-vertex-ai-llm-shared-request-type": "standard",
    },
}


# -- which tier


def tier_in_params(params: Mapping[str, object]) -> str | None:
    """Find the service tier that the body of a request asks for.

    Args:
        params: What the provider is told, by its names.

    Returns:
        The tier, in lower case; None for the plain one.
    """
    beside = params.get("extra_body")
    for place in (params, beside if isinstance(beside, dict) else {}):
        # Anthropic's fast mode: https://platform.claude.com/docs/en/build-with-claude/fast-mode
        for name in ("speed", "service_tier"):
            asked = place.get(name)
            if isinstance(asked, str) and asked.strip().lower() not in _PLAIN_TIERS:
                return asked.strip().lower()
    return None


def tier_in_headers(headers: Mapping[str, str], provider: str) -> str | None:
    """Read the service tier from headers, if no body names it.

    Args:
        headers: Of a request or of an answer, without regard to case.
        provider: Who bills, as genai-prices names it; others than Amazon and Google name no tier
            in headers.

    Returns:
        The tier, None for the plain one.
    """
    for name, plain in _HEADERS.get(provider, {}).items():
        said = headers.get(name, plain).strip().lower()
        if said not in ("", plain):
            return said
    return None


def tier_in_usage(raw: Mapping[str, object]) -> str | None:
    """Read from a Vertex usage how the request was served.

    What is provisioned is not billed by the token, and what is asked for as flex or priority has
    other rates:
    https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse

    Args:
        raw: A usage as the provider sent it.

    Returns:
        The way, in lower case; None for the plain one.
    """
    place: object = raw
    for name in ("extra_properties", "google", "traffic_type"):
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, str) or place.upper() in ("ON_DEMAND", "TRAFFIC_TYPE_UNSPECIFIED"):
        return None
    return place.lower()


# -- its rates


def rates_of_tier(
    listed: Listed, at: int, *, asked: str | None, answered: str | None, speed: object
) -> Tariffs:
    """Look up a model's rates in the service tier that an attempt was given.

    Args:
        listed: The model.
        at: When the attempt began, nanoseconds UTC.
        asked: The tier that was asked for, None for the plain one.
        answered: The tier that the answer names, None where it names none.
        speed: What Anthropic's usage says of the speed, None where it says nothing.

    Returns:
        The rates.

    Raises:
        NoRateError: The data has no rates of the tier, or nobody says which one was given.
    """
    # "standard" is Anthropic's word for a tier, and says nothing of the speed. What was given need
    # not be what was asked for: https://platform.openai.com/docs/api-reference/chat/object
    is_told = answered not in (None, "standard") or (answered is not None and asked != "fast")
    if asked is not None and not is_told and speed is None:
        raise NoRateError(
            f"can't tell the rates: the service tier {asked!r} was asked for, and the answer does "
            "not say which one it was given"
        )
    tariffs = tariffs_of_tier(listed, at, answered)
    if tariffs is None:
        raise NoRateError(f"lists {listed.name} without a price for the service tier {answered!r}")
    return tariffs


def tariffs_of_tier(listed: Listed, at: int, tier: str | None) -> Tariffs | None:
    """Look up a model's rates in a service tier.

    Args:
        listed: The model.
        at: Nanoseconds UTC.
        tier: By its provider's name, None for the plain one.

    Returns:
        The rates; None for a tier that has none then.
    """
    if tier in _PLAIN_TIERS or listed.has_tier(at, tier):
        return listed.tariffs(at, tier)
    return None
