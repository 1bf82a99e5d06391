"""Reads the details of a usage: how many tokens of each kind there were."""

from __future__ import annotations

INWARD = ("prompt_tokens_details", "prompt_token_details", "input_tokens_details")
OUTWARD = ("completion_tokens_details", "output_tokens_details")
# Google sends the details as a list, with one count for each modality:
# https://ai.google.dev/api/generate-content#ModalityTokenCount
_OF_GOOGLE = {
    "promptTokensDetails": "prompt_tokens_details",
    "candidatesTokensDetails": "completion_tokens_details",
    "cacheTokensDetails": "cache_tokens_details",
    "toolUsePromptTokensDetails": "tool_use_prompt_tokens_details",
}


def with_details(raw: object) -> object:
    """Convert a list of counts by modality to counts by name.

    Args:
        raw: The usage as the provider sent it; gateways to Google send such lists.

    Returns:
        A copy with counts by name; the same usage if it has no such list.
    """
    if not isinstance(raw, dict) or not any(isinstance(value, list) for value in raw.values()):
        return raw
    lists = {
        name: value
        for name, value in raw.items()
        if name in (*INWARD, *OUTWARD, *_OF_GOOGLE) and _are_modalities(value)
    }
    changed = {name: value for name, value in raw.items() if name not in lists}
    for name, counts in lists.items():
        named: dict[str, object] = {}
        for one in counts:
            modality = str(one["modality"]).lower()
            count = one.get("tokenCount", one.get("token_count", one.get("tokens")))
            named[f"{modality}_tokens"] = count
        changed.setdefault(_OF_GOOGLE.get(str(name), str(name)), named)
    return changed if lists else raw


def _are_modalities(value: object) -> bool:
    """True if a value is a list with a count for each modality."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) and one.get("modality") for one in value)
