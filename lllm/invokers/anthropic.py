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
_NO_KEY = "no-key"  # for servers that need no key; the SDK requires one
_KEY, _TOKEN = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"


class AnthropicInvoker(SdkInvoker["anthropic.Anthropic", "anthropic.AsyncAnthropic"]):
    """Calls models through the Messages API.

    Params are sent unchanged (temperature, thinking, metadata, ...); `messages.payload` describes
    the `max_tokens` that is sent if they have none. Set headers, such as `anthropic-beta`, by the
    SDK's variable ANTHROPIC_CUSTOM_HEADERS.

    Args:
        base_url: The base URL without "/v1"; None for ANTHROPIC_BASE_URL or Anthropic itself.
        api_key: The API key. None for ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, which are read at
            the first call, so that a tactic can be built without a key. A key given here is pickled
            along; a process that unpickles an invoker without one reads its own environment.
        timeout: Seconds to wait for a connection, and for each next piece of the answer. The
            default is the SDK's ten minutes, because an answer that is not streamed arrives in one
            piece.
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

    The API refuses a schema with keywords that it can't enforce. The SDK knows them, and moves them
    to the description.
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

    The body is passed as `extra_body`, because create() has parameters only for what it knows, and
    warns about or refuses some of their values.
    """

    access: Access

    def _options(self) -> _Options:
        # Both are given, so that the SDK does not look for others, such as in its profile files.
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
        made.messages.with_raw_response  # noqa: B018 - reading the attribute imports it
        return made

    def async_client(self) -> anthropic.AsyncAnthropic:
        import anthropic

        made = anthropic.AsyncAnthropic(**self._options())
        made.messages.with_raw_response  # noqa: B018 - reading the attribute imports it
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
