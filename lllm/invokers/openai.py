"""Models behind an HTTP API that speaks Chat Completions, by OpenAI's own SDK.

OpenAI's, and whatever serves the same dialect: Azure, OpenRouter, Groq, Ollama, vLLM. The SDK
sends and waits; it never tries again, because each attempt is an event of its own. What came back
is read from the body as it was sent, since the SDK's models add and drop fields.

No credential leaves this module. An error is made anew, of cleaned text, and raised outside of the
handler of the SDK's own, whose causes and tracebacks can quote headers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from lllm.events.errors import ConfigError, InvokeError, MissingExtra
from lllm.events.locks import tell_after_fork
from lllm.invokers.chat_completions import answer, payload
from lllm.invokers.failures import Secrets, from_response, request_id
from lllm.invokers.openai_clients import Clients, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lllm.invokers import Answer, Request

_OPENAI = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # for servers that ask for none; the SDK insists on one

# Who answers at a host, by the names of genai-prices; a subdomain counts as its host.
_PROVIDERS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
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
    "api.novita.ai": "novita",
    "generativelanguage.googleapis.com": "google",
}

# Clients that a forked child got from its parent. They are kept, untouched: closing one could wait
# for a lock that a thread of the parent held, and the connections are the parent's to close.
_inherited: list[object] = []


class _Raw(Protocol):
    """An HTTP answer as the SDK hands it over, unread."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...


class _Secret:
    """A text that no repr shows, of this or of what holds it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<secret>"

    def fits_a_header(self) -> bool:
        """Whether it can be sent as a token of an Authorization header."""
        return self.text.isascii() and self.text.isprintable() and " " not in self.text


@dataclass(frozen=True)
class _Access:
    """Where the requests go, and by what right."""

    base_url: _Secret  # it may hold a password
    api_key: _Secret | None
    provider: str
    timeout: float
    organization: str | None
    project: str | None

    def options(self) -> Options:
        """For the SDK's clients. Raises ConfigError where there is no key that can be sent."""
        return Options(
            base_url=self.base_url.text,
            api_key=self._key().text,
            timeout=self.timeout,
            organization=self.organization,
            project=self.project,
            max_retries=0,
        )

    def _key(self) -> _Secret:
        key = self.api_key or _Secret(os.environ.get("OPENAI_API_KEY", "").strip())
        if not key.text and self.provider == "openai":
            raise ConfigError(
                "OpenAI asks for an API key: set OPENAI_API_KEY, or give "
                "OpenAIInvoker(api_key=...)."
            )
        if not key.fits_a_header():
            raise ConfigError(
                "The API key has characters that no HTTP header can carry. Was more than the key "
                "copied into OPENAI_API_KEY or api_key=?"
            )
        return key if key.text else _Secret(_NO_KEY)

    def secrets(self, key: str) -> Secrets:
        """All that must not be told. key: the one in use."""
        ambient = os.environ.get("OPENAI_CUSTOM_HEADERS", "")  # the SDK sends them along
        values = [line.partition(":")[2].strip() for line in ambient.split("\n")]
        password = urlsplit(self.base_url.text).password
        return Secrets(None if key == _NO_KEY else key, password, *values)


class OpenAIInvoker:
    """Calls models through the Chat Completions API.

    base_url: where it is served, None for OPENAI_BASE_URL or OpenAI itself.
    api_key: None for OPENAI_API_KEY, read when the first call is made, so that a tactic can be
        built where there is no key. A key given here travels with a pickle; one of the environment
        does not, the other process reads its own.
    timeout: seconds to wait for a connection, and for each next piece of the answer.
    organization, project: OpenAI's, sent as headers; None for OPENAI_ORG_ID and OPENAI_PROJECT_ID.

    Threads share a client, each event loop has its own, closed with the loop. Raises MissingExtra
    where the SDK is not installed, ConfigError for a base_url that is none.
    """

    api = "chat.completions"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        organization: str | None = None,
        project: str | None = None,
    ) -> None:
        if importlib.util.find_spec("openai") is None:
            raise MissingExtra(
                'The OpenAI SDK is not installed. It is in an extra: pip install "lllm[openai]"'
            )
        url = (base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI).strip()
        self.host, self.port = _address(url)
        self.provider = _provider(self.host)
        key = _Secret(api_key.strip()) if api_key and api_key.strip() else None
        self._access = _Access(_Secret(url), key, self.provider, timeout, organization, project)
        self._begin()

    def _begin(self) -> None:
        self._clients = Clients(self._access.options)
        self._closer = weakref.finalize(self, self._clients.close_all)
        self._closer.atexit = False
        tell_after_fork(self)

    def after_fork(self) -> None:
        """The child makes clients of its own."""
        self._closer.detach()
        _inherited.append(self._clients)
        self._begin()

    def __getstate__(self) -> dict[str, object]:
        ours = ("_clients", "_closer")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._begin()

    def __repr__(self) -> str:
        return f"OpenAIInvoker(provider={self.provider!r}, host={self.host!r}, port={self.port})"

    def close(self) -> None:
        """Close the connections of the threads; a later call opens new ones."""
        self._clients.close()

    def invoke(self, request: Request) -> Answer:
        """Ask, and wait for the answer.

        Raises InvokeError where the call fails, and ConfigError where it can't be made: there is
        no key for OpenAI, or `params` sets what lllm decides.
        """
        body = payload(request)
        client = self._clients.of_threads()
        secrets = self._access.secrets(client.api_key)
        try:
            # The body is handed over whole: create() refuses params that only others know.
            raw = client.chat.completions.with_raw_response.create(
                model=request.model, messages=[], extra_body=body
            )
        except Exception as error:
            failure = self._failure(error, secrets)
        else:
            return self._read(raw, request, secrets)
        raise failure

    async def ainvoke(self, request: Request) -> Answer:
        """The same on an asyncio event loop."""
        body = payload(request)
        client = await self._clients.of_running_loop()
        secrets = self._access.secrets(client.api_key)
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model=request.model, messages=[], extra_body=body
            )
        except Exception as error:
            failure = self._failure(error, secrets)
        else:
            return self._read(raw, request, secrets)
        raise failure

    def _read(self, raw: _Raw, request: Request, secrets: Secrets) -> Answer:
        identity = request_id(raw.headers, secrets)
        try:
            text = secrets.cut(raw.content.decode())
            body: object = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if body is None:
            raise InvokeError(
                f"{self.host} answered with a body that is no JSON.",
                retryable=True,
                status=raw.status_code,
                request_id=identity,
            )
        if isinstance(body, dict) and body.get("error") and not body.get("choices"):
            # OpenRouter answers 200 once it has begun, and puts the status into the error's code:
            # https://openrouter.ai/docs/api-reference/errors
            code = body["error"].get("code") if isinstance(body["error"], dict) else None
            status = code if type(code) is int and 400 <= code < 600 else 500
            raise from_response(status, raw.headers, text, host=self.host, secrets=secrets)
        return answer(body, model=request.model, request_id=identity)

    def _failure(self, error: Exception, secrets: Secrets) -> InvokeError:
        import openai

        if isinstance(error, openai.APIStatusError):
            got = error.response
            return from_response(
                got.status_code, got.headers, got.text, host=self.host, secrets=secrets
            )
        cause = error.__cause__ or error
        told = secrets.cut_error(f"{type(cause).__name__}: {cause}")
        if "header" in told.lower():
            # h11 quotes the header that it can't send, escaped, and so unlike the secret.
            return InvokeError(
                f"A header of the request can't be sent ({type(cause).__name__}). Are there odd "
                "characters in organization, project or OPENAI_CUSTOM_HEADERS?",
                retryable=False,
            )
        if isinstance(error, openai.APITimeoutError):
            message = f"{self.host} sent nothing for {self._access.timeout:g} seconds ({told})"
        elif isinstance(error, openai.APIConnectionError):
            message = f"The connection to {self.host}:{self.port} failed ({told})"
        else:
            return InvokeError(f"The request could not be made ({told})", retryable=False)
        return InvokeError(message, retryable=True)


def _address(base_url: str) -> tuple[str, int]:
    """The host and port of a base URL, without what else it may hold."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            "base_url (or OPENAI_BASE_URL) is no web address: it should look like "
            "'http://localhost:11434/v1'."
        )
    return host, port or (443 if parts.scheme == "https" else 80)


def _provider(host: str) -> str:
    labels = host.split(".")
    names = (".".join(labels[start:]) for start in range(len(labels)))
    return next((_PROVIDERS[name] for name in names if name in _PROVIDERS), host)
