"""What a span says, in lllm's terms, whichever convention it follows."""

from __future__ import annotations

from typing import Literal

import msgspec

from lllm.events.model import Content, Usage
from lllm.invokers import Finish

Kind = Literal["model", "tool", "agent", "other"]


class ModelCall(msgspec.Struct, gc=False):
    """A call of a model.

    Attributes:
        operation: The kind of request, as "chat" or "embeddings".
        provider: The provider by the convention's name; "" if unknown.
        asked: The model that was requested; "" if unknown.
        model: The model that answered; "" if unknown.
        host: The host that was called; None if unknown.
        port: The port of the host; None if unknown.
        params: The parameters of the request.
        sent: The messages of the request, oldest first.
        answer: The answer; None if it was not exported.
        finish_raw: Why the model stopped, in the provider's terms; None if unknown.
        response_id: The provider's id of the answer; None if unknown.
        service_tier: The service tier of the answer; None if unknown.
        fingerprint: The provider's id of the system that answered; None if unknown.
        usage: The tokens; None if unknown.
        usage_raw: The tokens as they were exported; None if they were not.
        billed: The cost that the provider stated, in nano-dollars; None if it stated none.
        is_stream: True if the answer was streamed.
        first_token: Nanoseconds until the first piece of a stream; None if unknown.
        retries: How often the SDK repeated the request before it was answered.
    """

    operation: str = "chat"
    provider: str = ""
    asked: str = ""
    model: str = ""
    host: str | None = None
    port: int | None = None
    params: dict[str, object] = {}
    sent: tuple[Content, ...] = ()
    answer: Content | None = None
    finish_raw: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    usage: Usage | None = None
    usage_raw: object = None
    billed: int | None = None
    is_stream: bool = False
    first_token: int | None = None
    retries: int = 0

    @property
    def finish(self) -> Finish:
        """Why the model stopped, in lllm's terms."""
        if self.answer is not None and self.answer.tool_calls:
            return "tool_calls"
        return _FINISH.get((self.finish_raw or "").lower().replace("-", "_"), "other")

    def fill_from(self, other: ModelCall) -> None:
        """Take what is unknown here from another span of the same call."""
        for name in _FILLED:
            if not getattr(self, name):
                setattr(self, name, getattr(other, name))
        if self.usage is None:
            self.usage, self.usage_raw = other.usage, other.usage_raw


_FILLED = (
    "provider", "asked", "model", "host", "port", "params", "sent", "answer", "finish_raw",
    "response_id", "service_tier", "fingerprint", "billed", "first_token", "retries",
)  # fmt: skip
_FINISH: dict[str, Finish] = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "completed": "stop",
    "finish_reason_stop": "stop", "complete": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length",
    "tool_calls": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter", "safety": "content_filter", "refusal": "content_filter",
}  # fmt: skip


class ToolRun(msgspec.Struct, gc=False):
    """A run of a tool.

    Attributes:
        name: The name of the tool.
        call_id: The provider's id of the call; "" if unknown.
        arguments: The arguments, as JSON; None if they were not exported.
        result: The result as a text; None if it was not exported.
    """

    name: str
    call_id: str = ""
    arguments: object = None
    result: str | None = None

    def fill_from(self, other: ToolRun) -> None:
        """Take what is unknown here from another span of the same run."""
        self.call_id = self.call_id or other.call_id
        if self.arguments is None:
            self.arguments = other.arguments
        if self.result is None:
            self.result = other.result


class SpanReading(msgspec.Struct, gc=False):
    """What a span says.

    Attributes:
        kind: What the span is: a call of a model, a run of a tool, an agent or a workflow, or
            something else around them, whose sums of tokens are not counted.
        name: Its name, as "asker".
        call: The call, if it is one.
        tool: The run, if it is one.
        task: What an agent was asked; None if unknown.
        delivery: What an agent answered; None if unknown.
        conversation: The id of the conversation or user session; None if unknown.
        user: The id of the user; None if unknown.
        content: The names of the attributes whose texts are read; how they begin.
    """

    kind: Kind
    name: str
    call: ModelCall | None = None
    tool: ToolRun | None = None
    task: str | None = None
    delivery: str | None = None
    conversation: str | None = None
    user: str | None = None
    content: tuple[str, ...] = ()
