"""Who bills a call: the address says it, or somebody does, or nobody knows and it is unpriced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data import providers

from lllm import LogStore, SQLiteBackend, capture
from lllm.events.model import LLMRequested, LLMResponded, Usage
from lllm.invokers.anthropic import AnthropicInvoker
from lllm.invokers.litellm import LiteLLMInvoker
from lllm.invokers.openai import OpenAIInvoker
from lllm.pricing.genai_prices import is_known
from lllm.pricing.price import price
from lllm.pricing.provider_hosts import PROVIDERS, provider_at
from tests.lllm.instrumentation.asking import ASKED, CHAT, chat_client, only
from tests.support import loopback
from tests.support.loopback import Loopback
from tests.support.runs import Asking

NANOS = 20 * 150 + 5 * 600  # of gpt-4o-mini: https://openai.com/api/pricing


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store of one test."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.z.ai/api/paas/v4", "zai"),
        ("https://open.bigmodel.cn/api/paas/v4", "zhipuai"),
        ("https://api.together.ai/v1", "together"),
        ("https://us-api.together.ai/v1", "together"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
        ("https://vpce-0a1b-2c.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws"),
        ("https://aws-external-anthropic.us-west-2.api.aws", "anthropic"),
        ("https://acme.openai.azure.com/openai/", "azure"),
        ("https://acme.services.ai.azure.com/anthropic/", "azure"),
        ("https://us-east5-aiplatform.googleapis.com/v1", "google"),
        ("https://aiplatform.eu.rep.googleapis.com/v1", "google"),
        ("https://aiplatform.googleapis.com/v1", "google"),
        ("https://router.huggingface.co/groq/openai/v1", "huggingface_groq"),
        ("https://dbc-1.cloud.databricks.com/serving-endpoints", "databricks"),
        ("https://api.cloudflare.com/client/v4/accounts/abc/ai/v1", "cloudflare"),
        ("https://oai.helicone.ai/v1", "openai"),
        ("https://anthropic.helicone.ai", "anthropic"),
        ("https://gateway.helicone.ai/v1", "helicone"),
        ("https://gateway.ai.cloudflare.com/v1/acc/gate/openai", "openai"),
        ("https://gateway.ai.cloudflare.com/v1/acc/gate/google-ai-studio/v1", "google"),
        ("https://gateway.ai.cloudflare.com/v1/acc/gate/compat", "cloudflare-ai-gateway"),
        ("https://api.portkey.ai/v1", "portkey"),
        ("https://ai-gateway.vercel.sh/v1", "vercel"),
        ("http://localhost:8000/v1", None),
        ("https://llm.example.com/v1", None),
        ("https://api.openai.com.example.com/v1", None),
        ("https://gateway.ai.cloudflare.com/v1/acc/gate/my-own", None),
        ("http://[::1", None),
    ],
)
def test_an_address_says_who_bills(url: str, provider: str | None) -> None:
    """Hosts, parts of paths, and known gateways."""
    assert provider_at(url) == provider
    assert provider is None or is_known(provider)


def test_addresses_are_those_of_the_price_data() -> None:
    """Each provider of genai-prices that has an API for models of text is found at its address,
    and no host here is another's there."""
    patterns = {one.id: one.api_pattern for one in providers}
    for host, name in PROVIDERS.items():
        assert re.match(patterns[name], f"https://{host}/v1")


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "gpt-4o-mini"])
@pytest.mark.parametrize("provider", ["vercel", "portkey", "helicone", "cloudflare-ai-gateway"])
def test_a_gateway_passes_on_what_its_providers_bill(provider: str, model: str) -> None:
    """The model's name says whose it is."""
    assert price(Usage(input=1000), provider=provider, model=model, at=0).nanos == 150_000


def test_a_captured_client(
    server: Loopback, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an address of one's own a famous name has no price until somebody says who bills: for the
    client, or in the environment."""

    def asked(**how: Any) -> tuple[str, int | None]:
        server.answers(loopback.text("Hi."))
        client = capture(chat_client(server), log_store=store, **how)
        client.with_options(max_retries=0).chat.completions.create(model=CHAT, messages=ASKED)
        [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
        return requested.provider, responded.price.nanos

    assert asked() == ("127.0.0.1", None)
    [responded] = only(store, LLMResponded)
    assert "LLLM_PROVIDER" in responded.price.reason
    assert asked(provider="openai") == ("openai", NANOS)
    monkeypatch.setenv("LLLM_PROVIDER", "azure")
    assert asked() == ("azure", NANOS)
    assert asked(provider="openai") == ("openai", NANOS)


def test_an_agent(server: Loopback, store: LogStore) -> None:
    """The key `provider` of an agent's config, or the invoker's, says it."""
    for said, invoker, nanos in (
        (None, OpenAIInvoker(base_url=server.url), None),
        ("openai", OpenAIInvoker(base_url=server.url), NANOS),
        (None, OpenAIInvoker(base_url=server.url, provider="openai"), NANOS),
    ):
        agent = {"name": "a", "model_name": CHAT, "invoker": invoker, "provider": said}
        Asking({"agent_configs": [agent]}, log_store=store)("Hi")
        [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
        assert responded.price.nanos == nanos
        assert requested.provider == ("127.0.0.1" if nanos is None else "openai")
        invoker.close()


def test_the_environment_names_it_for_unknown_addresses_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LLLM_PROVIDER stands for what nobody knows; a known address, or a local model's port, says
    more."""
    monkeypatch.setenv("LLLM_PROVIDER", "openai")
    assert OpenAIInvoker(base_url="http://proxy.example.com/v1").provider == "openai"
    assert OpenAIInvoker(base_url="https://api.groq.com/openai/v1").provider == "groq"
    assert OpenAIInvoker(base_url="http://localhost:11434/v1").provider == "localhost"
    assert AnthropicInvoker(base_url="http://proxy.example.com").provider == "openai"
    assert LiteLLMInvoker(api_base="http://p.example.com/v1").for_model("x").provider == "openai"


def test_a_name_of_ones_own_network_is_no_provider() -> None:
    """A container may be called as a provider is."""
    assert OpenAIInvoker(base_url="http://openai:8000/v1").provider == "openai:8000"
    got = price(Usage(input=1), provider="openai:8000", model=CHAT, at=0, host="openai", port=8000)
    assert got.status == "unpriced"


@pytest.mark.parametrize(("port", "free"), [(11434, True), (1234, True), (8000, False)])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_known_ports_of_ones_own_machine(host: str, port: int, free: bool) -> None:
    """Ollama's and LM Studio's are free, unless somebody is said to bill there."""
    where = OpenAIInvoker(base_url=f"http://{host}:{port}/v1")

    def status(provider: str) -> str:
        return price(
            Usage(input=1), provider=provider, model=CHAT, at=0, host=where.host, port=where.port
        ).status

    assert status(where.provider) == ("free" if free else "unpriced")
    assert status("openai") == "priced"
