"""Reads the service tier from the headers of a request or an answer, if no body names it.

Bedrock and Vertex bill what these ask for at other rates than tokens have otherwise, or not by the
token at all:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
https://cloud.google.com/vertex-ai/generative-ai/docs/provisioned-throughput/use-provisioned-throughput
"""

from __future__ import annotations

from collections.abc import Mapping

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


def tier_of(headers: Mapping[str, str], provider: str) -> str | None:
    """Read the service tier from headers.

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
