"""The interface between agents and the providers of models.

An invoker turns a `Request` into an `Answer`, once. It neither waits nor retries, because each
attempt is a separate event, and the agent decides about the next one. A failure is raised as
`InvokeError`, which says whether a retry makes sense. Any object with `invoke`, `ainvoke` and the
attributes below is an invoker; there is no base class.
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
    """A request to a model.

    Attributes:
        model: The model, by the provider's name for it.
        messages: The conversation so far, oldest first.
        tools: The tools that the model may call.
        params: Other parameters of the provider's API (temperature, max_tokens, ...), by its names.
        output_schema: The JSON schema that the answer must match; None for any answer.
        tool_choice: "auto", or "none" to forbid tools; None to send no choice.
        agent: The name of the agent that calls; it is not sent to the provider.
    """

    model: str
    messages: tuple[Content, ...]
    tools: tuple[ToolDefinition, ...] = ()
    params: dict[str, object] = {}
    output_schema: dict[str, object] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    agent: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A model's answer.

    Attributes:
        content: The content of the answer.
        finish: The reason why the model stopped, in lllm's terms.
        model: The model that answered, by the provider's name for it.
        finish_raw: The reason why the model stopped, in the provider's terms.
        response_id: The provider's id of the answer.
        request_id: The provider's id of the request.
        service_tier: The service tier by the provider's name for it; None if it sent none.
        fingerprint: The fingerprint of the provider's system.
        usage_raw: The usage as the provider sent it.
        usage: The usage in lllm's terms; None if the provider sent none, or an invalid one.
        billed: The cost in nano-dollars, if the provider itself sent it.
        free: The reason why the answer cost nothing, as "served from a cache".
        first_token: Nanoseconds from the request to the first piece of a stream.
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


OnText = Callable[[str], object]  # a function that is called with each piece of an answer's text


@runtime_checkable
class Invoker(Protocol):
    """Calls a model once."""

    @property
    def provider(self) -> str:
        """The provider that bills, by its name in genai-prices ("openai") or another name."""

    @property
    def api(self) -> str:
        """The dialect of the API ("chat.completions")."""

    @property
    def host(self) -> str | None:
        """The host that requests go to; None for an embedded model."""

    @property
    def port(self) -> int | None:
        """The port that requests go to; None for an embedded model."""

    def invoke(self, request: Request) -> Answer:
        """Call the model and wait for its answer.

        Args:
            request: The request.

        Returns:
            The answer.

        Raises:
            InvokeError: The call failed.
        """

    async def ainvoke(self, request: Request) -> Answer:
        """Call the model on an event loop, as `invoke` does."""


@runtime_checkable
class Streams(Protocol):
    """Additional methods of an invoker that can pass on an answer's text as it arrives."""

    def stream(self, request: Request, on_text: OnText) -> Answer:
        """Call the model, and pass on the text of its answer as it arrives.

        Args:
            request: The request.
            on_text: A function that is called with each piece of text; an error that it raises ends
                the stream.

        Returns:
            The whole answer.

        Raises:
            InvokeError: The call failed, or the stream ended too early; the error's `partial` and
                `usage` have the part that had arrived.
        """

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """Stream an answer on an event loop, as `stream` does; on_text is called on the loop."""
