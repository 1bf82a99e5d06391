"""Calls Claude, and other models behind Anthropic's Messages API, with Anthropic's SDK."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import msgspec

from lllm.events.errors import InvokeError
from lllm.invokers.dialects.catalog import MESSAGES
from lllm.invokers.http.endpoint import Access, access
from lllm.invokers.sdk.invoker import SdkInvoker
from lllm.invokers.sdk.versions import require

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import anthropic

    from lllm.invokers import Request
    from lllm.invokers.sdk.invoker import AsyncPieces, Body, StreamedResponse, Whole

_ANTHROPIC = "https://api.anthropic.com"
_NO_KEY = "no-key"  # for servers that ask for none; the SDK insists on one
_KEY, _TOKEN = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"


class AnthropicInvoker(SdkInvoker["anthropic.Anthropic", "anthropic.AsyncAnthropic"]):
    """Calls models through the Messages API.

    Params go to the API as they are (temperature, thinking, metadata, ...); see
    `messages.payload` for what is sent as `max_tokens` where they don't say. Headers, as
    `anthropic-beta`, are the SDK's ANTHROPIC_CUSTOM_HEADERS.

    Args:
        base_url: Where it is served, without "/v1"; None for ANTHROPIC_BASE_URL or Anthropic
            itself.
        api_key: None for ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, read when the first call is
            made, so that a tactic can be built where there is no key. A key given here travels with
            a pickle; one of the environment does not, the other process reads its own.
        timeout: Seconds to wait for a connection, and for each next piece of the answer; the SDK's
            ten minutes, because an answer that is not streamed says nothing before it is whole.
        provider: The provider that answers and bills, by its name in genai-prices, if the base URL
            does not tell; None for LLLM_PROVIDER. Without either, calls are unpriced.
        model_prefix: A prefix that is removed from the model's name before it is sent, as
            "anthropic/".

    Raises:
        MissingExtra: The SDK is not installed.
        ConfigError: The base_url is not a valid URL.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 600.0,
        provider: str | None = None,
        model_prefix: str = "",
    ) -> None:
        require("anthropic")
        where = access(
            base_url or os.environ.get("ANTHROPIC_BASE_URL") or _ANTHROPIC,
            api_key=api_key,
            timeout=timeout,
            key_env=_KEY,
            headers_env="ANTHROPIC_CUSTOM_HEADERS",
            provider=provider,
        )
        super().__init__(_Anthropic(where), where, _MESSAGES, model_prefix=model_prefix)


def _payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """Make the body of the HTTP request, with a schema that the API accepts.

    It takes no schema that has keywords it can't hold an answer to; the SDK knows which, and says
    them in words instead.
    """
    if request.output_schema is None:
        return MESSAGES.payload(request, stream=stream)
    import anthropic

    try:
        schema = anthropic.transform_schema(request.output_schema)
    except ValueError as error:
        message = f"Messages can't take the schema of the answer: {error}"
        raise InvokeError(message, retryable=False) from None
    return MESSAGES.payload(msgspec.structs.replace(request, output_schema=schema), stream=stream)


_MESSAGES = replace(MESSAGES, payload=_payload)


class _Options(TypedDict):
    base_url: str
    api_key: str | None
    auth_token: str | None
    timeout: float
    max_retries: int


@dataclass(frozen=True)
class _Anthropic:
    """Uses Anthropic's SDK; see `Sdk`.

    The body is handed over whole, as `extra_body`: create() has parameters for what it knows of it
    only, and warns and refuses by what it finds in them.
    """

    access: Access

    def _options(self) -> _Options:
        # Both are given, so that the SDK looks for no others, as in the files of its profiles.
        given = self.access.api_key is not None or os.environ.get(_KEY, "").strip()
        token = not given and bool(os.environ.get(_TOKEN, "").strip())
        key = (replace(self.access, key_env=_TOKEN) if token else self.access).key() or _NO_KEY
        return _Options(
            base_url=self.access.base_url.text,
            api_key=None if token else key,
            auth_token=key if token else None,
            timeout=self.access.timeout,
            max_retries=0,
        )

    def client(self) -> anthropic.Anthropic:
        import anthropic

        made = anthropic.Anthropic(**self._options())
        made.messages.with_raw_response  # noqa: B018 - asking for it is what imports it
        return made

    def async_client(self) -> anthropic.AsyncAnthropic:
        import anthropic

        made = anthropic.AsyncAnthropic(**self._options())
        made.messages.with_raw_response  # noqa: B018 - asking for it is what imports it
        return made

    def credentials(
        self, client: anthropic.Anthropic | anthropic.AsyncAnthropic
    ) -> tuple[str | None, ...]:
        return (None if client.api_key == _NO_KEY else client.api_key, client.auth_token)

    def ask(self, client: anthropic.Anthropic, body: Body) -> Whole:
        raw = client.messages.with_raw_response.create(
            model="", max_tokens=0, messages=[], extra_body=body
        )
        return raw.http_response

    async def aask(self, client: anthropic.AsyncAnthropic, body: Body) -> Whole:
        raw = await client.messages.with_raw_response.create(
            model="", max_tokens=0, messages=[], extra_body=body
        )
        return raw.http_response

    def open(
        self, client: anthropic.Anthropic, body: Body
    ) -> AbstractContextManager[StreamedResponse]:
        return client.messages.with_streaming_response.create(
            model="", max_tokens=0, messages=[], extra_body=body
        )

    def aopen(
        self, client: anthropic.AsyncAnthropic, body: Body
    ) -> AbstractAsyncContextManager[AsyncPieces]:
        return client.messages.with_streaming_response.create(
            model="", max_tokens=0, messages=[], extra_body=body
        )
