"""Finds the provider that bills for a web address, by the names of genai-prices.

Nothing is guessed: calls to an address that no table here lists have no price until the user names
the provider that bills. For a gateway that passes on its providers' prices, the address or the
model's name identifies the provider; see `lllm.pricing.genai_prices.BY_MODEL_NAME`.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from lllm.pricing.local_models import local_provider

VARIABLE = "LLLM_PROVIDER"
"""The environment variable that names the provider of addresses that are unknown."""

# A subdomain counts as its host. A test compares this table with the addresses in genai-prices.
PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.x.ai": "x-ai",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "api.anthropic.com": "anthropic",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "inference.baseten.co": "baseten",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.doubleword.ai": "doubleword",
    "api.githubcopilot.com": "github-copilot",
    "api.meta.ai": "meta",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.quicksilverpro.io": "quicksilverpro",
    "api.voyageai.com": "voyageai",
}
# Other addresses of Together: https://docs.together.ai/docs/openai-api-compatibility
_ALSO = {"api.together.ai": "together"}
# Hosts whose names include a region or a customer's name.
_BY_HOST = (
    # https://docs.aws.amazon.com/bedrock/latest/userguide/vpc-interface-endpoints.html
    (
        re.compile(
            r"(vpce-[a-z0-9-]+\.)?bedrock-runtime(-fips)?\.[a-z0-9-]+\.(vpce\.)?amazonaws\.com"
        ),
        "aws",
    ),
    # Billed by Amazon at Anthropic's rates:
    # https://docs.aws.amazon.com/claude-platform/latest/userguide/billing.html
    (re.compile(r"aws-external-anthropic\.[a-z0-9-]+\.api\.aws"), "anthropic"),
    # https://cloud.google.com/vertex-ai/docs/reference/rest#service-endpoint
    (re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com"), "google"),
    (re.compile(r"aiplatform\.[a-z]+\.rep\.googleapis\.com"), "google"),
    # https://docs.together.ai/docs/serverless/geo-specific-inference
    (re.compile(r"[a-z]+-api\.together\.ai"), "together"),
)
# The host and the start of the path; the group is the provider's name for that gateway.
_BY_PATH = (
    # https://huggingface.co/docs/inference-providers
    (re.compile(r"router\.huggingface\.co/([a-z-]+)/.*"), "huggingface_{}"),
    # https://docs.databricks.com/aws/en/machine-learning/model-serving/score-foundation-models
    (
        re.compile(
            r"[^/]+\.(?:cloud\.databricks\.com|azuredatabricks\.net|gcp\.databricks\.com)"
            r"/(?:serving-endpoints|ai-gateway)/.*"
        ),
        "databricks",
    ),
    # https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility
    (re.compile(r"api\.cloudflare\.com/client/v4/accounts/[^/]+/ai/.*"), "cloudflare"),
)
# Gateways that pass requests on and bill for them.
_GATEWAYS = {
    "ai-gateway.vercel.sh": "vercel",  # https://vercel.com/docs/ai-gateway/pricing
    "api.portkey.ai": "portkey",  # https://portkey.ai/docs/api-reference/inference-api/introduction
    "gateway.helicone.ai": "helicone",  # https://docs.helicone.ai/getting-started/integration-method
    "ai-gateway.helicone.ai": "helicone",
}
# https://docs.helicone.ai/references/proxy-vs-async: oai.helicone.ai, groq.helicone.ai, ...
_HELICONE = re.compile(r"([a-z]+)\.(?:helicone\.ai|hconeai\.com)")
# https://developers.cloudflare.com/ai-gateway/usage/providers: .../v1/ACCOUNT/GATEWAY/PROVIDER
_CLOUDFLARE = re.compile(r"gateway\.ai\.cloudflare\.com/v1/[^/]+/[^/]+/([^/]+)/.*")
_AT_GATEWAYS = {
    "oai": "openai",
    "openai": "openai",
    "anthropic": "anthropic",
    "groq": "groq",
    "together": "together",
    "openrouter": "openrouter",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "mistral": "mistral",
    "perplexity": "perplexity",
    "perplexity-ai": "perplexity",
    "cerebras": "cerebras",
    "cerebras-ai": "cerebras",
    "cohere": "cohere",
    "grok": "x-ai",
    "azure-openai": "azure",
    "aws-bedrock": "aws",
    "google-ai-studio": "google",
    "google-vertex-ai": "google",
    "workers-ai": "cloudflare",
    "compat": "cloudflare-ai-gateway",  # the model's name begins with the provider's
}


def provider_of(host: str) -> str | None:
    """Find the provider that serves a host.

    Args:
        host: A host name; a subdomain counts as its host.

    Returns:
        The provider's name in genai-prices; None for an unknown host.
    """
    labels = host.lower().split(".")
    names = (".".join(labels[start:]) for start in range(len(labels)))
    return next((PROVIDERS[name] for name in names if name in PROVIDERS), None)


def provider_at(url: str) -> str | None:
    """Find the provider that bills for requests to a base URL.

    Args:
        url: A web address; anything else gives None.

    Returns:
        A name of genai-prices, or the name of a gateway whose models are priced as their makers
        price them; None if the address is unknown.
    """
    try:
        parts = urlsplit(url)
        host, path = (parts.hostname or "").rstrip("."), parts.path
    except ValueError:
        return None
    place = f"{host}{path.rstrip('/')}/"
    for pattern, name in _BY_PATH:
        found = pattern.fullmatch(place)
        if found is not None:
            return name.format(*found.groups())
    at_gateway = _CLOUDFLARE.fullmatch(place) or _HELICONE.fullmatch(host)
    if at_gateway is not None and at_gateway[1] in _AT_GATEWAYS:
        return _AT_GATEWAYS[at_gateway[1]]
    for table in (_ALSO, _GATEWAYS):
        if host in table:
            return table[host]
    by_host = (name for pattern, name in _BY_HOST if pattern.fullmatch(host))
    return next(by_host, None) or provider_of(host)


def biller_at(url: str, host: str, port: int) -> str:
    """Find the provider that bills at an address, also if the address is unknown.

    Args:
        url: The base URL.
        host: Its host.
        port: Its port.

    Returns:
        The provider that is known for the address; else what LLLM_PROVIDER names, unless a local
        model is served there; else the host itself.
    """
    known = provider_at(url)
    if known is None and local_provider(host, port) is None:
        known = os.environ.get(VARIABLE, "").strip() or None
    if known is None and "." not in host and host != "localhost":
        return f"{host}:{port}"  # a name in a local network, which may equal a provider's
    return known or host
