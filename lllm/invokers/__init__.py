"""How a model is called: the one seam between an agent and a provider.

An invoker turns a `Request` into an `Answer`, once: it neither waits nor tries again, because each
attempt is an event of its own and the agent decides about the next one. What fails is raised as
`InvokeError`, which says whether another attempt makes sense. An object with `invoke` and
`ainvoke` and the few names below is an invoker; there is nothing to inherit from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import msgspec

from lllm.events.model import Content, ToolDefinition, Usage

__all__ = [
    "Answer",
    "Content",
    "Finish",
    "Invoker",
    "OnText",
    "Request",
    "Streams",
    "ToolDefinition",
    "Usage",
]

Finish = Literal["stop", "tool_calls", "length", "content_filter", "other"]


class Request(msgspec.Struct, frozen=True):
    """Everything that one attempt asks of a model.

    messages: the conversation so far, oldest first. params: what else the provider takes
    (temperature, max_tokens, ...), by its names. output_schema: the JSON schema that the answer
    must fit. tool_choice: "auto", or "none" to forbid tools. agent: who asks; no provider is told.
    """

    model: str
    messages: tuple[Content, ...]
    tools: tuple[ToolDefinition, ...] = ()
    params: dict[str, object] = {}
    output_schema: dict[str, object] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    agent: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What came back.

    finish: why the model stopped, in our words; `finish_raw` in the provider's. model: the one that
    answered, by the provider's name for it. usage_raw: the usage as the provider sent it; `usage`
    the same in our terms, None where it sent none or nonsense. billed: nano-dollars, where the
    provider says itself what it cost. free: why it cost nothing, as "served from a cache".
    first_token: nanoseconds from the request to the first piece of a stream.
    """

    content: Content
    finish: Finish
    model: str
    finish_raw: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    usage_raw: object = None
    usage: Usage | None = None
    billed: int | None = None
    free: str | None = None
    first_token: int | None = None


OnText = Callable[[str], object]  # gets the text of an answer, piece by piece


@runtime_checkable
class Invoker(Protocol):
    """Calls a model once.

    provider: as genai-prices names it ("openai", "anthropic"), or a name of one's own. api: the
    dialect spoken ("chat.completions"). host, port: where the requests go, None for an embedded
    model.
    """

    @property
    def provider(self) -> str: ...
    @property
    def api(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...

    def invoke(self, request: Request) -> Answer:
        """Call the model and wait for its answer. Raises InvokeError where it fails."""

    async def ainvoke(self, request: Request) -> Answer:
        """The same on an event loop."""


@runtime_checkable
class Streams(Protocol):
    """What an invoker has, too, that can hand on an answer's text while it comes.

    A stream that ends too early, or with an error, raises an InvokeError whose `partial` and
    `usage` say what had come.
    """

    def stream(self, request: Request, on_text: OnText) -> Answer:
        """`invoke`, with on_text called for each piece of text. What on_text raises ends it."""

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """The same on an event loop; on_text is called on it."""
