"""Logging without a Tactic: the clients of openai and anthropic, recorded.

    client = lllm.capture(OpenAI(), log_store=store)
    with store.session("my_project::script", tags={"env": "dev"}):
        client.chat.completions.create(model="gpt-4o-mini", messages=[...])

Only what the SDKs send and get is listened to, so all of their helpers (`.stream()`, `.parse()`,
`.with_raw_response`, context managers) go on working, and what they return is untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lllm.store import LogStore

ClientT = TypeVar("ClientT")


def capture(
    client: ClientT,
    *,
    log_store: LogStore | None = None,
    ask_for_usage: bool = False,
    provider: str | None = None,
) -> ClientT:
    """Have every chat, responses, messages and embeddings call of a client recorded; returns that
    same client.

    Inside `with store.session(...)`, a tactic or a function under `@store.tactic(...)` a call
    belongs to that session; outside of any it is a session of its own in `log_store`. Streams are
    recorded when they end, or are closed. Each attempt of the SDK is an event, failed ones too.

    client: an OpenAI, AsyncOpenAI, Anthropic or AsyncAnthropic, or a subclass like AzureOpenAI.
    log_store: for calls outside of any session; without it these are not recorded, which is warned
        of once.
    ask_for_usage: whether streams of Chat Completions are asked for what they used
        (`stream_options`); they end with one more chunk then, which has no choices. Without it, and
        where the caller does not ask, such a stream counts as unpriced.
    provider: who bills the calls, by the names of genai-prices ("openai", "azure"), where the
        client's base URL does not tell, as that of a proxy; None for LLLM_PROVIDER. Where nobody
        says it, calls are unpriced.

    Raises ConfigError for what is no such client, MissingExtra where the version of its SDK is not
    supported. The calls themselves raise what the SDK raises;
    BudgetExceeded where the session's budget is spent; LogUnavailable where the log can't be
    written and was told to say so.
    """
    from lllm.capturing.clients import listen
    from lllm.capturing.homes import Homes

    listen(client, Homes(log_store), ask_for_usage=ask_for_usage, provider=provider)
    return client
