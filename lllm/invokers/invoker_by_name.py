"""Finds the invoker for the name of a model, or by the invoker's own name.

    resolve_invoker("gpt-4o-mini")         OpenAI
    resolve_invoker("claude-sonnet-4-5")   Anthropic
        resolve_invoker("groq/llama-3.3-70b")  a provider with OpenAI's API, found by its prefix
        named("litellm")                       any provider that LiteLLM supports

A prefix names the provider, and is not sent. No SDK is imported before an invoker is made.
"""

from __future__ import annotations

import importlib.util
import os
import re
from contextlib import suppress
from typing import NamedTuple, Protocol, runtime_checkable
from urllib.parse import urlsplit

from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import ConfigError
from lllm.invokers import Invoker
from lllm.pricing.provider_hosts import provider_of

_LOCAL = "ollama"  # the provider that needs no key


class _Place(NamedTuple):
    """The provider of a model, and how to call it: what an invoker is made from.

    Attributes:
        invoker: A key of _BY_NAME.
        key_env: The environment variable that has the key.
        token_env: Another environment variable that may have it; "" for none.
        url_env: The environment variable that replaces the base URL; "" for none.
        base_url: The base URL; None for the SDK's own.
        provider: The provider that bills, by its name in genai-prices; None to find it by the base
            URL.
        prefix: The prefix that is removed from the model's name.
    """

    invoker: str
    key_env: str = ""
    token_env: str = ""
    url_env: str = ""
    base_url: str | None = None
    provider: str | None = None
    prefix: str = ""


def _compatible(base_url: str, key_env: str, provider: str) -> _Place:
    return _Place("openai", key_env, base_url=base_url, provider=provider)


_OPENAI = _Place("openai", "OPENAI_API_KEY", url_env="OPENAI_BASE_URL")
_ANTHROPIC = _Place("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
_BY_NAME = {
    "openai": _OPENAI,
    "openai-responses": _OPENAI._replace(invoker="openai-responses"),
    "anthropic": _ANTHROPIC,
    "litellm": _Place("litellm"),
}
_PROVIDERS = {
    "openai": _OPENAI,
    "anthropic": _ANTHROPIC,
    # https://openrouter.ai/docs/quickstart
    "openrouter": _compatible("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter"),
    # https://console.groq.com/docs/openai
    "groq": _compatible("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    # https://api-docs.deepseek.com
    "deepseek": _compatible("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek"),
    # https://docs.mistral.ai/api
    "mistral": _compatible("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral"),
    # https://docs.x.ai/docs/api-reference
    "xai": _compatible("https://api.x.ai/v1", "XAI_API_KEY", "x-ai"),
    # https://docs.together.ai/docs/openai-api-compatibility
    "together": _compatible("https://api.together.xyz/v1", "TOGETHER_API_KEY", "together"),
    # https://docs.fireworks.ai/tools-sdks/openai-compatibility
    "fireworks": _compatible(
        "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "fireworks"
    ),
    # https://ai.google.dev/gemini-api/docs/openai
    "gemini": _compatible(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "google"
    ),
    # https://github.com/ollama/ollama/blob/main/docs/openai.md; only its cloud needs a key.
    "ollama": _compatible("http://localhost:11434/v1", "OLLAMA_API_KEY", _LOCAL),
}
# The provider for each prefix of a model's name.
_BY_PREFIX = {name: place._replace(prefix=f"{name}/") for name, place in _PROVIDERS.items()}

# The provider for names without a prefix; gpt-oss is OpenAI's, but OpenAI does not serve it.
_BY_BEGINNING = (
    (re.compile(r"gpt-(?!oss)|chatgpt-|codex-|ft:|o[1-9](?:-|$)|text-embedding-"), _OPENAI),
    (re.compile(r"claude-"), _ANTHROPIC),
)


@runtime_checkable
class PerModel(Protocol):
    """An additional method of an invoker that can call several providers."""

    def for_model(self, model: str) -> Invoker:
        """Get the invoker for one model, with the provider that its name implies."""


class ByName:
    """Makes the invokers of one configuration, and reuses one that is equal to another."""

    def __init__(self) -> None:
        self._made: dict[_Place, Invoker] = {}

    def named(self, name: str) -> Invoker:
        """Make the invoker with a given name; see the function `named`."""
        if name == "scripted":
            raise ConfigError(
                "The scripted invoker needs its script: make it with ScriptedInvoker([...]) and "
                "give that object instead of the name."
            )
        if name not in _BY_NAME:
            known = ", ".join(repr(one) for one in _BY_NAME)
            raise ConfigError(f"There is no invoker {name!r}. Known by name: {known}.")
        return self._at(_BY_NAME[name])

    def resolve(self, model: str) -> Invoker:
        """Make the invoker for a model; see `resolve_invoker`."""
        return self._at(_place_of(model))

    def _at(self, place: _Place) -> Invoker:
        if place not in self._made:
            self._made[place] = _new_invoker(place)
        return self._made[place]


def named(name: str) -> Invoker:
    """Make the invoker that a configuration names.

    Args:
        name: "openai", "openai-responses", "anthropic" or "litellm".

    Returns:
        The invoker.

    Raises:
        ConfigError: The name is unknown, or is "scripted", which needs a script.
        MissingExtra: The invoker's SDK is not installed.
    """
    return ByName().named(name)


def resolve_invoker(model: str) -> Invoker:
    """Make the invoker for a model when the configuration names no invoker.

    A name that implies no provider goes to OPENAI_BASE_URL, if that is set.

    Args:
        model: The model's name, such as "gpt-4o-mini", "claude-sonnet-4-5" or "groq/llama-3.3-70b".

    Returns:
        The invoker.

    Raises:
        ConfigError: The name implies no provider.
        MissingExtra: The provider's SDK is not installed.
    """
    return ByName().resolve(model)


def check_key(model: str) -> None:
    """Check early that the API key for a model is set.

    Args:
        model: The model's name.

    Raises:
        ConfigError: The key is not in the environment; the message names the variable.
    """
    place = _place_of(model)
    # A server of the user's own may need no key.
    names = (place.key_env, place.token_env, place.url_env)
    if place.provider == _LOCAL or any(os.environ.get(name, "").strip() for name in names):
        return
    raise ConfigError(f"The model {model} needs a key: set {place.key_env} to yours first.")


def _place_of(model: str) -> _Place:
    if not model or model.split() != [model]:
        raise ConfigError(f"{model!r} is not the name of a model: it is empty or has spaces.")
    prefix, slash, rest = model.partition("/")
    place = _BY_PREFIX.get(prefix) if slash else None
    if place is not None and not rest:
        raise ConfigError(f"{model!r} names a provider, but no model after the slash.")
    if place is not None:
        return _OPENAI if place.url_env == _OPENAI.url_env and not _is_openai() else place
    for beginning, known in _BY_BEGINNING:
        if beginning.match(model):
            return known
    if _base_url():
        return _OPENAI
    raise _unknown_name(model)


def _base_url() -> str:
    return os.environ.get(_OPENAI.url_env, "").strip()


def _is_openai() -> bool:
    """True if OPENAI_BASE_URL points to OpenAI itself.

    For other servers, such as OpenRouter, "openai/" is part of a model's name.
    """
    with suppress(ValueError):  # not a web address; the invoker reports that
        return not _base_url() or provider_of(urlsplit(_base_url()).hostname or "") == "openai"
    return False


def _unknown_name(model: str) -> ConfigError:
    prefixes = ", ".join(f"{prefix}/" for prefix in _BY_PREFIX)
    more = (
        '"litellm" calls the models of many more'
        if importlib.util.find_spec("litellm") is not None
        else 'pip install "lllm[litellm]" brings one that calls the models of many more, "litellm"'
    )
    return ConfigError(
        f"The name {model!r} does not tell which provider to ask. Put the provider before it "
        f"({prefixes}), or set OPENAI_BASE_URL to a server that speaks OpenAI's dialect, or name "
        f'the invoker, as in {{"model_name": "{model}", "invoker": "openai"}}; {more}.'
    )


def _new_invoker(place: _Place) -> Invoker:
    if place.invoker == "litellm":
        with importing():
            from lllm.invokers.litellm.invoker import LiteLLMInvoker

        return LiteLLMInvoker()
    if place.invoker == "anthropic":
        with importing():
            from lllm.invokers.anthropic import AnthropicInvoker

        return AnthropicInvoker(
            base_url=place.base_url, provider=place.provider, model_prefix=place.prefix
        )
    with importing():
        from lllm.invokers.openai import OpenAIInvoker

    return OpenAIInvoker(
        base_url=place.base_url,
        provider=place.provider,
        api_key_env=place.key_env,
        model_prefix=place.prefix,
        api="responses" if place.invoker == "openai-responses" else "chat.completions",
    )
