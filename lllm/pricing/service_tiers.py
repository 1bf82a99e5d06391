"""Finds the service tier that a request asked for and was given, and its rates.

A tier ("flex", "priority", "batch", or "fast" for Anthropic's fast mode) has other rates than the
default one. If the price data has no rates for it, or the answer does not say which tier was given,
the attempt is unpriced.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.pricing.genai_prices import Listed, Tariffs
from lllm.pricing.why_unpriced import NoRateError

# Names billed as the default tier. Groq's default is "on_demand", "auto" repeats the request, and
# "standard_only" is Anthropic's: https://platform.claude.com/docs/en/api/service-tiers
_PLAIN_TIERS = (None, "", "auto", "default", "standard", "standard_only", "on_demand")
# Headers by which Bedrock and Vertex are asked for a tier with other rates, or for capacity that
# is not billed by the token:
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
# https://cloud.google.com/vertex-ai/generative-ai/docs/provisioned-throughput/use-provisioned-throughput
# For each provider that bills: the headers, and the values that are billed as the default tier.
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


# -- the tier of a request or an answer


def tier_in_params(params: Mapping[str, object]) -> str | None:
    """Find the service tier that the body of a request asks for.

    Args:
        params: The parameters of the request, by the provider's names.

    Returns:
        The tier, in lower case; None for the default one.
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
    """Read the service tier from headers; used if no body names one.

    Args:
        headers: The headers of a request or a response, found without regard to case.
        provider: The provider that bills, by its name in genai-prices; only Amazon and Google name
            a tier in headers.

    Returns:
        The tier, in lower case; None for the default one.
    """
    for name, plain in _HEADERS.get(provider, {}).items():
        said = headers.get(name, plain).strip().lower()
        if said not in ("", plain):
            return said
    return None


def tier_in_usage(raw: Mapping[str, object]) -> str | None:
    """Read the way in which Vertex served a request from its usage.

    Provisioned capacity is not billed by the token, and "flex" and "priority" have other rates:
    https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The way, in lower case, such as "flex"; None for the default one.
    """
    place: object = raw
    for name in ("extra_properties", "google", "traffic_type"):
        place = place.get(name) if isinstance(place, dict) else None
    place = raw.get("trafficType", place)  # Vertex's own API
    if not isinstance(place, str) or place.upper() in ("ON_DEMAND", "TRAFFIC_TYPE_UNSPECIFIED"):
        return None
    return place.lower()


# -- the rates of a tier


def rates_of_tier(
    listed: Listed, at: int, *, asked: str | None, answered: str | None, speed: object
) -> Tariffs:
    """Look up a model's rates in the service tier with which an attempt was served.

    Args:
        listed: The model in the price data.
        at: The time at which the attempt began, nanoseconds UTC.
        asked: The requested tier; None for the default one.
        answered: The tier that the answer names; None if it names none.
        speed: The `speed` of Anthropic's usage; None if it has none.

    Returns:
        The rates of the tier.

    Raises:
        NoRateError: The data has no rates for the tier, or the answer does not say which tier was
            given.
    """
    # "standard" is Anthropic's word for a tier, and says nothing about the speed. The tier that was
    # given may differ from the requested one:
    # https://platform.openai.com/docs/api-reference/chat/object
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
        listed: The model in the price data.
        at: Nanoseconds UTC.
        tier: The tier by its provider's name; None for the default one.

    Returns:
        The rates; None if the tier has none at that time.
    """
    if tier in _PLAIN_TIERS or listed.has_tier(at, tier):
        return listed.tariffs(at, tier)
    return None
