"""What a call on Amazon Bedrock is billed by: the model, or the inference profile, asked for.

An answer names the model alone ("claude-haiku-4-5-20251001"), but the rates are those of what was
asked for: a profile that may answer from anywhere ("global.anthropic...") is a tenth cheaper than
one of a region ("us.anthropic..."), and an ARN may stand for anything:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
"""

from __future__ import annotations

# Resources whose ARN ends with the name of a model or of a profile of Amazon's own.
_NAMED = ("foundation-model", "inference-profile")


def billed_names(provider: str, model: str, asked: str | None) -> tuple[str, ...]:
    """The names under which the rates of a call may be listed, the best first.

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
    """Who makes a model that Bedrock serves, and the model's name there; None for other providers
    and makers."""
    _, found, name = model.rpartition("anthropic.")
    if provider != "aws" or not (found or model.startswith("claude")):
        return None
    return "anthropic", name
