"""Records the calls of clients of openai and anthropic, without a Tactic.

    client = lllm.capture(OpenAI(), log_store=store)
    with store.session("my_project::script", tags={"env": "dev"}):
        client.chat.completions.create(model="gpt-4o-mini", messages=[...])

Only what the SDKs send and get is listened to, so all of their helpers (`.stream()`, `.parse()`,
`.with_raw_response`, context managers) go on working, and what they return is untouched.
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

    Inside `with store.session(...)`, a tactic or a function under `@store.tactic(...)` a call
    belongs to that session; outside of any it is a session of its own in `log_store`. Streams are
    recorded when they end, or are closed. Each attempt of the SDK is an event, failed ones too.

    To capture a client again changes where its calls go: the last `capture` wins, also for the
    copies that its `with_options` and `copy` made before. `release` ends it.

    Args:
        client: An OpenAI, AsyncOpenAI, Anthropic or AsyncAnthropic, one for a cloud like
            AzureOpenAI, AnthropicBedrock or AnthropicVertex, or what has such a client as an
            attribute, as a chat model of LangChain.
        log_store: For calls outside of any session; without it these are not recorded, which is
            warned of once.
        ask_for_usage: Whether streams of Chat Completions are asked for what they used
            (`stream_options`); they end with one more chunk then, which has no choices. Without it,
            and where the caller does not ask, such a stream counts as unpriced.
        provider: Who bills the calls, by the names of genai-prices ("openai", "azure"), where the
            client's base URL does not tell, as that of a proxy; None for LLLM_PROVIDER. Where
            nobody says it, calls are unpriced.

    Returns:
        That same client.

    Raises:
        ConfigError: For what is no such client and has none.
        MissingExtra: Where the version of its SDK is not supported.

    The calls themselves raise what the SDK raises; BudgetExceeded where the session's budget is
    spent; LogUnavailable where the log can't be written and was told to say so.
    """
    from lllm.instrumentation.sdk.patch import clients_of, listen
    from lllm.instrumentation.session_resolver import Recording, SessionResolver

    recording = Recording(SessionResolver(log_store), ask_for_usage, provider)
    for one in clients_of(client):
        listen(one, recording)
    return client


def release(client: ClientT) -> ClientT:
    """Stop recording a client, and the copies that were made of it.

    It stays open, and calls that are under way are recorded to their end. Releasing a client that
    is not captured does nothing.

    Args:
        client: What `capture` was given.

    Returns:
        The client.

    Raises:
        ConfigError: For what is no client of openai or anthropic, and has none.
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

    At the end the client is what it was before: released, or captured as it had been. It stays
    open, while `with capture(client)` closes it, as the SDK's own `with` does.

    Args:
        client: As for `capture`.
        log_store: As for `capture`.
        ask_for_usage: As for `capture`.
        provider: As for `capture`.

    Yields:
        The client.

    Raises:
        ConfigError: For what is no client of openai or anthropic, and has none.
        MissingExtra: Where the version of its SDK is not supported.
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
