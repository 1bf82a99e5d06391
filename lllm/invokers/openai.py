"""Calls models behind Chat Completions or Responses APIs with OpenAI's SDK.

It works with OpenAI and with all servers of the same APIs: Azure, OpenRouter, Groq, Ollama, vLLM.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from lllm.events.errors import ConfigError
from lllm.invokers.dialects.catalog import CHAT, RESPONSES
from lllm.invokers.http.endpoint import Access, access
from lllm.invokers.sdk.invoker import SdkInvoker
from lllm.invokers.sdk.versions import require

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import openai

    from lllm.invokers.sdk.invoker import AsyncPieces, Body, StreamedResponse, Whole

_OPENAI = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # for servers that need no key; the SDK requires one

_DIALECTS = {dialect.name: dialect for dialect in (CHAT, RESPONSES)}


class OpenAIInvoker(SdkInvoker["openai.OpenAI", "openai.AsyncOpenAI"]):
    """Calls models through the Chat Completions API or the Responses API.

    Threads share a client. Each event loop has its own, which is closed with the loop.

    Args:
        base_url: The base URL; None for OPENAI_BASE_URL or OpenAI itself.
        api_key: The API key. None for that of the environment, which is read at the first call, so
            that a tactic can be built without a key. A key given here is pickled along; a process
            that unpickles an invoker without one reads its own environment.
        timeout: Seconds to wait for a connection, and for each next piece of the answer.
        organization: The id of an OpenAI organization, sent as a header; None for OPENAI_ORG_ID.
        project: The id of an OpenAI project, sent as a header; None for OPENAI_PROJECT_ID.
        api: "chat.completions", which most servers support, or "responses".
        provider: The provider that answers and bills, by its name in genai-prices, if the base URL
            does not tell; None for LLLM_PROVIDER. Without either, calls are unpriced.
        api_key_env: The name of the environment variable that has the key.
        model_prefix: A prefix that is removed from the model's name before it is sent, such as
            "openrouter/".

    Raises:
        MissingExtra: The SDK is not installed.
        ConfigError: The base_url or the api is not valid.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        organization: str | None = None,
        project: str | None = None,
        api: Literal["chat.completions", "responses"] = "chat.completions",
        provider: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        model_prefix: str = "",
    ) -> None:
        require("openai")
        if api not in _DIALECTS:
            known = " and ".join(repr(name) for name in _DIALECTS)
            raise ConfigError(f"OpenAIInvoker knows no api {api!r}; it knows {known}.")
        where = access(
            base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI,
            api_key=api_key,
            timeout=timeout,
            key_env=api_key_env,
            headers_env="OPENAI_CUSTOM_HEADERS",
            provider=provider,
        )
        sdk = _OpenAI(where, organization, project, api == "responses")
        super().__init__(sdk, where, _DIALECTS[api], model_prefix=model_prefix)


class _Options(TypedDict):
    """The options with which both kinds of client are made."""

    base_url: str
    api_key: str
    timeout: float
    organization: str | None
    project: str | None
    max_retries: int


@dataclass(frozen=True)
class _OpenAI:
    """Uses OpenAI's SDK; see `Sdk`.

    The body is passed as `extra_body`, because create() refuses params that only other servers
    know.
    """

    access: Access
    organization: str | None
    project: str | None
    responses: bool

    def _options(self) -> _Options:
        return _Options(
            base_url=self.access.base_url.text,
            api_key=self.access.key() or _NO_KEY,
            timeout=self.access.timeout,
            organization=self.organization,
            project=self.project,
            max_retries=0,
        )

    def client(self) -> openai.OpenAI:
        import openai

        made = openai.OpenAI(**self._options())
        resource = made.responses if self.responses else made.chat.completions
        resource.with_streaming_response  # noqa: B018 - reading the attribute imports it
        return made

    def async_client(self) -> openai.AsyncOpenAI:
        import openai

        made = openai.AsyncOpenAI(**self._options())
        resource = made.responses if self.responses else made.chat.completions
        resource.with_streaming_response  # noqa: B018 - reading the attribute imports it
        return made

    def credentials(self, client: openai.OpenAI | openai.AsyncOpenAI) -> tuple[str | None, ...]:
        return () if client.api_key == _NO_KEY else (client.api_key,)

    def ask(self, client: openai.OpenAI, body: Body) -> Whole:
        if self.responses:
            return client.responses.with_raw_response.create(extra_body=body)
        return client.chat.completions.with_raw_response.create(
            model="", messages=[], extra_body=body
        )

    async def aask(self, client: openai.AsyncOpenAI, body: Body) -> Whole:
        if self.responses:
            return await client.responses.with_raw_response.create(extra_body=body)
        return await client.chat.completions.with_raw_response.create(
            model="", messages=[], extra_body=body
        )

    def open(self, client: openai.OpenAI, body: Body) -> AbstractContextManager[StreamedResponse]:
        if self.responses:
            return client.responses.with_streaming_response.create(extra_body=body)
        return client.chat.completions.with_streaming_response.create(
            model="", messages=[], extra_body=body
        )

    def aopen(
        self, client: openai.AsyncOpenAI, body: Body
    ) -> AbstractAsyncContextManager[AsyncPieces]:
        if self.responses:
            return client.responses.with_streaming_response.create(extra_body=body)
        return client.chat.completions.with_streaming_response.create(
            model="", messages=[], extra_body=body
        )
