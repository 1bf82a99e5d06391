"""Records the calls of clients of openai, anthropic and google-genai, without a Tactic.

    client = lllm.capture(OpenAI(), log_store=store)
    with store.session("my_project::script", tags={"env": "dev"}):
        client.chat.completions.create(model="gpt-4o-mini", messages=[...])

Only the SDK's requests and responses are observed, so all its helpers (`.stream()`, `.parse()`,
`.with_raw_response`, context managers) keep working, and their results are unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore

ClientT = TypeVar("ClientT")


def capture(
    client: ClientT,
    *,
    log_store: LogStore | None = None,
    ask_for_usage: bool = False,
    provider: str | None = None,
) -> ClientT:
    """Record every chat, responses, messages and embeddings call of a client.

    A call inside `with store.session(...)`, a tactic, or a function decorated with
    `@store.tactic(...)` belongs to that session. A call outside of any session becomes a session of
    its own in `log_store`. A stream is recorded when it ends or is closed. Each attempt of the SDK
    is an event, also the failed ones.

    A second `capture` of the same client replaces the first, also for the copies that its
    `with_options` and `copy` have made. `release` stops the recording.

    Args:
        client: An OpenAI, AsyncOpenAI, Anthropic or AsyncAnthropic client, a cloud variant such as
            AzureOpenAI, AnthropicBedrock or AnthropicVertex, a Client of google-genai, or an object
            with such a client as an attribute, such as a chat model of LangChain.
        log_store: The store for calls outside of any session. None leaves these calls unrecorded;
            lllm warns of that once.
        ask_for_usage: True to request the usage of streamed Chat Completions (`stream_options`).
            Such a stream then ends with one more chunk, which has no choices. If neither lllm nor
            the caller requests the usage, the stream is unpriced.
        provider: The provider that bills the calls, by its name in genai-prices ("openai",
            "azure"), for a base URL that does not identify it, such as a proxy's. None means the
            value of LLLM_PROVIDER; if that is not set either, calls through a proxy are unpriced.

    Returns:
        The same client.

    Raises:
        ConfigError: The object neither is such a client nor has one.
        MissingExtra: The installed version of the client's SDK is not supported.

        A captured call raises what the SDK raises. It also raises BudgetExceeded if the session's
        budget is spent, and LogUnavailable if the log can't be written and the store was opened
        with `on_error="raise"`.
    """
    from lllm.instrumentation.sdk.patch import clients_of, listen
    from lllm.instrumentation.session_resolver import Recording, SessionResolver

    recording = Recording(SessionResolver(log_store), ask_for_usage, provider)
    for one in clients_of(client):
        listen(one, recording)
    return client


def release(client: ClientT) -> ClientT:
    """Stop recording a client, and the copies that were made of it.

    The client stays open. Calls in progress are recorded to their end. Releasing a client that is
    not captured does nothing.

    Args:
        client: The object that was given to `capture`.

    Returns:
        The same client.

    Raises:
        ConfigError: The object neither is such a client nor has one.
    """
    from lllm.instrumentation.sdk import patch

    for one in patch.clients_of(client):
        patch.release(one)
    return client


@contextmanager
def captured(
    client: ClientT,
    *,
    log_store: LogStore | None = None,
    ask_for_usage: bool = False,
    provider: str | None = None,
) -> Iterator[ClientT]:
    """Record a client inside a `with`: `with lllm.captured(client, log_store=store):`.

    At the end of the block the client is released, or captured as it was before. It stays open;
    in contrast, `with capture(client)` closes it, as the SDK's own `with` does.

    Args:
        client: A client of openai, anthropic or google-genai, or an object that has one as an
            attribute.
        log_store: The store for calls outside of any session; None leaves these unrecorded.
        ask_for_usage: True to request the usage of streamed Chat Completions.
        provider: The provider that bills the calls, by its name in genai-prices; None means the
            value of LLLM_PROVIDER, or the provider of the base URL.

    Yields:
        The same client.

    Raises:
        ConfigError: The object neither is such a client nor has one.
        MissingExtra: The installed version of the client's SDK is not supported.
    """
    from lllm.instrumentation.sdk import patch

    found = patch.clients_of(client)
    before = [patch.recording_of(one) for one in found]
    capture(client, log_store=log_store, ask_for_usage=ask_for_usage, provider=provider)
    try:
        yield client
    finally:
        for one, recording in zip(found, before, strict=True):
            if recording is None:
                patch.release(one)
            else:
                patch.listen(one, recording)
