"""An invoker that calls models of any provider through LiteLLM.

LiteLLM accepts a request in the form of Chat Completions, and converts every provider's answer and
usage to that form. Its prompt_tokens include tokens read from a cache or written to one, even if
the provider counts these separately (`calculate_usage` in its llms/anthropic, `transform_usage` in
its llms/bedrock).
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextlib import aclosing, closing
from typing import cast
from urllib.parse import urlsplit

from lllm.events.errors import InvokeError
from lllm.invokers import Answer, OnText, Request
from lllm.invokers.dialects.chat_completions import payload
from lllm.invokers.dialects.dialect import refuse_params
from lllm.invokers.http.endpoint import access
from lllm.invokers.http.secrets import Secret, Secrets
from lllm.invokers.litellm.answers import LiteLLMStream, read
from lllm.invokers.litellm.errors import from_exception
from lllm.invokers.litellm.library import calls_of_agent, keys, library, on_loop
from lllm.invokers.sdk.versions import require

# Prefixes of models whose provider has another name in genai-prices. LiteLLM's own names are at
# https://docs.litellm.ai/docs/providers.
_PROVIDERS = {
    "anthropic_text": "anthropic",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "ollama_chat": "ollama",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
# Params that would make several calls of one attempt, or change its stream.
_NOT_PARAMS = (
    "num_retries", "max_retries", "retry_policy", "fallbacks", "context_window_fallback_dict",
    "complete_response",
)  # fmt: skip


def provider_of(model: str) -> str:
    """Find the provider of a model by LiteLLM's name for the model.

    Args:
        model: LiteLLM's name for the model, such as "gemini/gemini-2.5-flash".

    Returns:
        The provider's name in genai-prices; "litellm" if the name has no prefix, so that the price
        is found by the model's name.
    """
    prefix, slash, _ = model.partition("/")
    return _PROVIDERS.get(prefix, prefix) if slash else "litellm"


class LiteLLMInvoker:
    """Calls models through LiteLLM, by its model names ("gemini/gemini-2.5-flash").

    Pass `drop_params`, `caching` and LiteLLM's other options in an agent's model_args.

    Args:
        api_base: The base URL; None for the provider's own.
        api_key: The key; None for the provider's environment variable
            (https://docs.litellm.ai/docs/providers), which is read at each call.
        timeout: Seconds to wait for an answer, or for each next piece of a streamed one.
        provider: The provider that bills, by its name in genai-prices; None to find it by the
            model's prefix.

    Raises:
        MissingExtra: LiteLLM is not installed.
        ConfigError: The api_base is not a web address.
    """

    api = "litellm"

    def __init__(
        self,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        provider: str | None = None,
    ) -> None:
        require("litellm")
        self.host: str | None = None
        self.port: int | None = None
        self._biller = "litellm"
        if api_base is not None:
            place = access(api_base, api_key=None, timeout=timeout, key_env="", headers_env="")
            self.host, self.port = place.host, place.port
            self._biller = place.provider  # for a model whose name implies no provider
        self.provider = provider or self._biller
        self._named = provider is not None
        self._api_base = Secret((api_base or "").strip())  # it may hold a password
        self._api_key = Secret((api_key or "").strip())
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"LiteLLMInvoker(provider={self.provider!r}, host={self.host!r}, port={self.port})"

    def for_model(self, model: str) -> LiteLLMInvoker:
        """Make a copy of this invoker with the provider of a given model.

        Args:
            model: LiteLLM's name for the model.

        Returns:
            The copy; the same invoker if the provider does not change.
        """
        provider = provider_of(model) if "/" in model else self._biller
        if self._named or self.provider == provider:
            return self
        copied = copy.copy(self)
        copied.provider = provider
        return copied

    def invoke(self, request: Request) -> Answer:
        """Call the model, and wait for its answer.

        Args:
            request: The request to send.

        Returns:
            The answer of the model.

        Raises:
            InvokeError: The call failed.
            ConfigError: `params` sets an option that lllm decides.
        """
        asked = self._arguments(request, stream=False)
        loaded = library()
        try:
            with calls_of_agent():
                response = loaded.completion(**asked)
        except Exception as error:
            failure = self._failure(error)
        else:
            return read(response, request, self._secrets())
        raise failure

    async def ainvoke(self, request: Request) -> Answer:
        """Call the model on an event loop, as `invoke` does."""
        asked = self._arguments(request, stream=False)
        loaded = await on_loop()
        try:
            with calls_of_agent():
                response = await loaded.acompletion(**asked)
        except Exception as error:
            failure = self._failure(error)
        else:
            return read(response, request, self._secrets())
        raise failure

    def stream(self, request: Request, on_text: OnText) -> Answer:
        """Call the model, and pass on the text of its answer as it arrives.

        Args:
            request: The request to send.
            on_text: A function that is called with each piece of text; an error that it raises ends
                the stream, and is raised.

        Returns:
            The whole answer.

        Raises:
            InvokeError: The stream failed or ended too early; the error has the part that arrived.
            ConfigError: `params` sets an option that lllm decides.
        """
        coming = LiteLLMStream(request, library(), self._secrets())
        with closing(self._texts(coming)) as texts:
            for text in texts:
                on_text(text)
        return self._finished_answer(coming)

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """Stream an answer on an event loop, as `stream` does; on_text is called on the loop."""
        coming = LiteLLMStream(request, await on_loop(), self._secrets())
        async with aclosing(self._atexts(coming)) as texts:
            async for text in texts:
                on_text(text)
        return self._finished_answer(coming)

    def _texts(self, coming: LiteLLMStream) -> Generator[str, None, None]:
        asked = self._arguments(coming.asked, stream=True)
        failure = None
        try:
            with calls_of_agent():
                coming.source = coming.library.completion(**asked)
            for chunk in cast("Iterable[object]", coming.source):
                if text := coming.take(chunk):
                    yield text
        except Exception as error:
            failure = coming.cut_off(self._failure(error))
        finally:
            coming.close()
        if failure is not None:
            raise failure

    async def _atexts(self, coming: LiteLLMStream) -> AsyncGenerator[str, None]:
        asked = self._arguments(coming.asked, stream=True)
        failure = None
        try:
            with calls_of_agent():
                coming.source = await coming.library.acompletion(**asked)
            async for chunk in cast("AsyncIterable[object]", coming.source):
                if text := coming.take(chunk):
                    yield text
        except Exception as error:
            failure = coming.cut_off(self._failure(error))
        finally:
            await coming.aclose()
        if failure is not None:
            raise failure

    def _arguments(self, request: Request, *, stream: bool) -> dict[str, object]:
        """Make the arguments for LiteLLM."""
        refuse_params(request, *_NOT_PARAMS, why="each attempt is one call")
        return {
            "timeout": self._timeout,
            "api_base": self._api_base.text or None,
            "api_key": self._api_key.text or None,
            **payload(request, stream=stream),
            "num_retries": 0,
            "max_retries": 0,
            # Otherwise LiteLLM looks for the tools of an MCP gateway, which needs a package that it
            # does not
            # install.
            "_skip_mcp_handler": True,
        }

    def _finished_answer(self, coming: LiteLLMStream) -> Answer:
        if not coming.ended:
            message = f"The answer of {self._name()} broke off."
            raise coming.cut_off(InvokeError(message, retryable=True))
        return coming.answer()

    def _failure(self, error: Exception) -> InvokeError:
        if isinstance(error, InvokeError):
            return error
        return from_exception(error, host=self._name(), secrets=self._secrets())

    def _secrets(self) -> Secrets:
        return Secrets(self._api_key.text, urlsplit(self._api_base.text).password, *keys())

    def _name(self) -> str:
        return self.host or self.provider
