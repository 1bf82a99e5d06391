"""The names that conventions give to providers, and those of lllm's prices."""

from __future__ import annotations

from lllm.pricing.provider_hosts import biller_at

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/#gen-ai-provider-name, the
# older values of gen_ai.system, and the names of OpenInference.
_NAMES = {
    "aws.bedrock": "aws", "aws_bedrock": "aws", "bedrock": "aws", "amazon-bedrock": "aws",
    "az.ai.openai": "azure", "azure.ai.openai": "azure", "azure_openai": "azure",
    "azure.ai.inference": "azure", "az.ai.inference": "azure",
    "gcp.gemini": "google", "gcp.gen_ai": "google", "gcp.vertex_ai": "google", "gemini": "google",
    "vertex_ai": "google", "vertexai": "google", "google_genai": "google", "google-gla": "google",
    "google-vertex": "google", "google.generative-ai": "google", "google.vertex": "google",
    "gcp.vertex.agent": "google",
    "mistral_ai": "mistral", "mistralai": "mistral",
    "x_ai": "x-ai", "xai": "x-ai",
}  # fmt: skip


def provider_name(named: str, host: str | None, port: int | None) -> str:
    """Find the provider that bills for a call.

    A library says which SDK was used, and that SDK may call any server. So where the address is
    known, it decides: an address that no table of lllm has is a provider of its own, whose calls
    have no price until the environment variable LLLM_PROVIDER, or the user's prices, say one.

    Args:
        named: The name in the span; "" if it has none.
        host: The host that was called; None if the span does not say it.
        port: The port of the host; None if the span does not say it.

    Returns:
        The name by which lllm knows the provider; "" if it is unknown.
    """
    if host:
        address = f"[{host}]" if ":" in host else host
        url = f"https://{address}:{port}" if port else f"https://{address}"
        return biller_at(url, host, port or 443)
    lower = named.lower()
    if lower in _NAMES:
        return _NAMES[lower]
    first = lower.partition(".")[0]  # Vercel's AI SDK adds the API, as "openai.responses"
    return _NAMES.get(first, first if "." in lower else lower)
