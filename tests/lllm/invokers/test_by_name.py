"""The invoker is found by a model's name, or named: where it asks, with which key, for what."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lllm import ConfigError, MissingExtra, Tactic
from lllm.agents.config import AgentConfig, read_config
from lllm.cli import main
from lllm.events.model import Content
from lllm.invokers import Request
from lllm.invokers import invoker_by_name as by_name
from lllm.invokers.invoker_by_name import check_key, named, resolve_invoker
from tests.support import loopback_messages as claude
from tests.support.loopback import Loopback

KEY = "key-0123456789abcdef"
HI = (Content.of("user", "Hi"),)

# A name, who answers to it, where, whose key is asked for, and the model's name as it is sent.
PROVIDERS = [
    ("gpt-4o-mini", "openai", "api.openai.com", "OPENAI_API_KEY", "gpt-4o-mini"),
    ("openai/gpt-4o-mini", "openai", "api.openai.com", "OPENAI_API_KEY", "gpt-4o-mini"),
    ("openrouter/openai/gpt-4o", "openrouter", "openrouter.ai", "OPENROUTER_API_KEY",
     "openai/gpt-4o"),
    ("groq/llama-3.3-70b", "groq", "api.groq.com", "GROQ_API_KEY", "llama-3.3-70b"),
    ("deepseek/deepseek-chat", "deepseek", "api.deepseek.com", "DEEPSEEK_API_KEY",
     "deepseek-chat"),
    ("mistral/mistral-small", "mistral", "api.mistral.ai", "MISTRAL_API_KEY", "mistral-small"),
    ("xai/grok-4", "x-ai", "api.x.ai", "XAI_API_KEY", "grok-4"),
    ("together/meta-llama/Llama-3", "together", "api.together.xyz", "TOGETHER_API_KEY",
     "meta-llama/Llama-3"),
    ("fireworks/accounts/x/models/y", "fireworks", "api.fireworks.ai", "FIREWORKS_API_KEY",
     "accounts/x/models/y"),
    ("gemini/gemini-2.5-flash", "google", "generativelanguage.googleapis.com", "GEMINI_API_KEY",
     "gemini-2.5-flash"),
    ("claude-haiku-4-5", "anthropic", "api.anthropic.com", "ANTHROPIC_API_KEY",
     "claude-haiku-4-5"),
    ("anthropic/claude-haiku-4-5", "anthropic", "api.anthropic.com", "ANTHROPIC_API_KEY",
     "claude-haiku-4-5"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL", "_AUTH_TOKEN")):
            monkeypatch.delenv(name)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these were not installed."""
    find = importlib.util.find_spec

    def find_others(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in packages else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)


# By the model's name


@pytest.mark.parametrize(("model", "provider", "host", "variable", "sent"), PROVIDERS)
def test_a_name_tells_the_provider(
    model: str,
    provider: str,
    host: str,
    variable: str,
    sent: str,
    server: Loopback,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model is asked at its provider's own place, with the key of its provider's variable, by
    its name without the prefix; without a key, the error names the variable."""
    invoker = resolve_invoker(model)
    assert (invoker.provider, invoker.host, invoker.port) == (provider, host, 443)
    with pytest.raises(ConfigError, match=variable):
        invoker.invoke(Request(model=model, messages=HI))
    with pytest.raises(ConfigError, match=f"set {variable}"):
        check_key(model)

    messages = provider == "anthropic"
    if messages:
        server.answers(claude.replies(claude.says("Hello.")))
    moved = claude.base_url(server) if messages else server.url
    there = by_name._place_of(model)._replace(base_url=moved)
    monkeypatch.setattr(by_name, "_place_of", lambda _: there)
    monkeypatch.setenv(variable, KEY)
    check_key(model)
    asked = resolve_invoker(model)
    assert asked.invoke(Request(model=model, messages=HI)).content.text == "Hello."
    (received,) = server.requests
    assert received.body["model"] == sent
    assert received.headers["authorization"] == f"Bearer {KEY}"
    asked.close()  # type: ignore[attr-defined] # both SDKs' invokers have it


@pytest.mark.parametrize(
    "model",
    ["gpt-5.1", "chatgpt-4o-latest", "o1", "o3-mini", "o4-mini-high", "codex-mini-latest",
     "text-embedding-3-small", "ft:gpt-4o-mini:mine::1"],
)  # fmt: skip
def test_what_openai_calls_its_models(model: str) -> None:
    """OpenAI is asked for what has one of its names."""
    assert resolve_invoker(model).host == "api.openai.com"


def test_ollama_needs_no_key(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of Ollama is asked on this machine, without a key, and not with OpenAI's."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    invoker = resolve_invoker("ollama/llama3.2")
    assert (invoker.provider, invoker.host, invoker.port) == ("ollama", "localhost", 11434)
    check_key("ollama/llama3.2")
    here = by_name._BY_PREFIX["ollama"]._replace(base_url=server.url)
    monkeypatch.setitem(by_name._BY_PREFIX, "ollama", here)
    invoker = resolve_invoker("ollama/llama3.2")
    invoker.invoke(Request(model="ollama/llama3.2", messages=HI))
    assert server.requests[0].body["model"] == "llama3.2"
    assert KEY not in str(server.requests[0].headers)
    invoker.close()  # type: ignore[attr-defined] # an OpenAIInvoker has it


@pytest.mark.parametrize("model", ["llama3.2", "gpt-4o-mini", "gpt-oss-20b", "openai/gpt-4o",
                                   "meta-llama/Llama-3"])  # fmt: skip
def test_a_server_of_ones_own(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """With OPENAI_BASE_URL set, what tells no other provider goes there, by its whole name, and
    needs no key."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    check_key(model)
    invoker = resolve_invoker(model)
    invoker.invoke(Request(model=model, messages=HI))
    assert server.requests[0].body["model"] == model
    assert resolve_invoker("claude-haiku-4-5").host == "api.anthropic.com"
    invoker.close()  # type: ignore[attr-defined] # an OpenAIInvoker has it


def test_another_place_of_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OPENAI_BASE_URL leads to OpenAI itself, "openai/" is no part of a model's name."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://eu.api.openai.com/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    invoker = resolve_invoker("openai/gpt-4o")
    assert (invoker.provider, invoker.host) == ("openai", "eu.api.openai.com")
    assert by_name._place_of("openai/gpt-4o").prefix == "openai/"


@pytest.mark.parametrize("model", ["llama3.2", "gpt-oss-20b", "o", "open/gpt-4o", "Claude-4", "/x"])
def test_a_name_that_tells_nothing(model: str) -> None:
    """A name without a provider is an error that says how to give it one."""
    with pytest.raises(ConfigError) as caught:
        resolve_invoker(model)
    told = str(caught.value)
    assert f"The name {model!r} does not tell which provider" in told
    assert "openrouter/, groq/" in told
    assert "OPENAI_BASE_URL" in told
    assert f'"model_name": "{model}", "invoker": "openai"' in told
    assert '"litellm" calls the models of many more' in told


def test_the_way_to_litellm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LiteLLM is not installed, the error says how it would be."""
    without(monkeypatch, "litellm")
    with pytest.raises(ConfigError, match=r'pip install "lllm\[litellm\]"'):
        resolve_invoker("llama3.2")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("", "'' is not the name of a model"),
        ("gpt-4o mini", "is not the name of a model: it is empty or has spaces"),
        (" gpt-4o", "is not the name of a model"),
        ("gpt-4o\n", "is not the name of a model"),
        ("openrouter/", "'openrouter/' names a provider, but no model"),
        ("openai/", "'openai/' names a provider, but no model"),
    ],
)
def test_what_is_no_name(model: str, told: str) -> None:
    """An empty name, spaces, or a provider without a model, are told as what they are."""
    with pytest.raises(ConfigError) as caught:
        resolve_invoker(model)
    assert told in str(caught.value)


# By the invoker's name


def test_invokers_are_named() -> None:
    """Each name is an invoker: the two APIs of OpenAI, Anthropic's, and LiteLLM."""
    assert named("openai").api == "chat.completions"
    assert named("openai-responses").api == "responses"
    assert named("anthropic").api == "messages"
    assert named("litellm").api == "litellm"


def test_the_scripted_one_needs_its_script() -> None:
    """A script can't be named, which the error says."""
    with pytest.raises(ConfigError, match=r"make it with ScriptedInvoker\(\[\.\.\.\]\)"):
        named("scripted")


def test_a_name_that_is_none() -> None:
    """An unknown name is an error that lists those that are known."""
    with pytest.raises(ConfigError, match="'openai', 'openai-responses', 'anthropic', 'litellm'"):
        named("opanai")


@pytest.mark.parametrize(
    ("package", "name", "model"),
    [
        ("openai", "openai", "gpt-4o"),
        ("openai", "openai-responses", "groq/llama-3.3-70b"),
        ("anthropic", "anthropic", "claude-haiku-4-5"),
        ("litellm", "litellm", None),
    ],
)
def test_an_sdk_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, package: str, name: str, model: str | None
) -> None:
    """A missing SDK is an ImportError that names the extra, when the invoker is made."""
    without(monkeypatch, package)
    told = rf'pip install "lllm\[{package}\]"'
    with pytest.raises(MissingExtra, match=told):
        named(name)
    if model is not None:
        with pytest.raises(ImportError, match=told):
            resolve_invoker(model)


# In a configuration


def read(*agents: dict[str, object]) -> dict[str, AgentConfig]:
    return read_config({"agent_configs": list(agents)}, (), "tactic 't'")


def test_agents_share_what_is_equal() -> None:
    """One tactic's agents that are called alike have one invoker, and its connections."""
    agents = read(
        {"name": "a", "model_name": "gpt-4o"},
        {"name": "b", "model_name": "o3-mini", "invoker": None},
        {"name": "c", "model_name": "whatever", "invoker": "openai"},
        {"name": "d", "model_name": "groq/llama-3.3-70b"},
        {"name": "e", "model_name": "groq/qwen-3"},
        {"name": "f", "model_name": "gpt-4o", "invoker": "openai-responses"},
    )
    assert agents["a"].invoker is agents["b"].invoker is agents["c"].invoker
    assert agents["d"].invoker is agents["e"].invoker
    assert len({id(agent.invoker) for agent in agents.values()}) == 3


def test_litellm_has_the_provider_of_each_model() -> None:
    """An invoker of several providers is told the model of each agent."""
    agents = read(
        {"name": "a", "model_name": "gemini/gemini-2.5-flash", "invoker": "litellm"},
        {"name": "b", "model_name": "ollama/llama3.2", "invoker": "litellm"},
    )
    assert [agent.invoker.provider for agent in agents.values()] == ["google", "ollama"]


def test_an_error_names_the_agent() -> None:
    """A model that tells no provider is told with the agent that has it."""
    with pytest.raises(ConfigError, match=r"invoker of agent 'a' of tactic 't': .*'llama3'"):
        read({"name": "a", "model_name": "llama3"})


def test_a_quick_question_goes_where_the_model_is(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tactic.quick asks the provider that the name tells."""
    server.answers(claude.replies(claude.says("Hello.")))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.base_url(server))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert Tactic.quick("Hi", model="claude-haiku-4-5") == "Hello."
    assert server.requests[0].path == "/v1/messages"


@pytest.mark.parametrize(
    ("model", "told"),
    [("claude-haiku-4-5", "ANTHROPIC_API_KEY"), ("llama3.2", "OPENAI_BASE_URL"), ("xai/", "xai/")],
)
def test_a_demo_that_cannot_ask(
    model: str, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """`lllm demo --model` says what a model lacks before it makes a store."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--model", model]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_sdk_is_imported_to_choose() -> None:
    """Choosing and making invokers loads no SDK, nor does importing lllm."""
    code = """
import sys
import lllm
from lllm.invokers.invoker_by_name import resolve_invoker, named
for model in ("gpt-4o", "claude-haiku-4-5", "groq/x"):
    resolve_invoker(model)
named("litellm")
print({"openai", "anthropic", "litellm", "httpx", "pydantic", "genai_prices"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
