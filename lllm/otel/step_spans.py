"""Makes the spans of a session's steps: calls of agents, attempts to call a model, tool calls."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lllm.events.model import (
    AgentDefined,
    AgentFailed,
    Error,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    ToolFailed,
    ToolReturned,
)
from lllm.otel.attributes import LONG, Plain, cut, ordered
from lllm.otel.call_attributes import answer_attributes, operation_of, request_attributes
from lllm.otel.message_attributes import (
    definition_attributes,
    input_messages,
    output_messages,
    value_text,
)
from lllm.otel.records import CLIENT, INTERNAL, AttributeValue, SpanEvent, SpanLink, SpanRecord
from lllm.otel.session_steps import ModelEnd, SessionSteps
from lllm.otel.span_ids import SpanContext, SpanKey, span_id_of
from lllm.otel.trace_places import ParentSpan, TracePlace

_NAME = 256  # bytes of the name of a span


class SpanOptions(msgspec.Struct, frozen=True, gc=False):
    """What is sent of each session.

    Attributes:
        messages: True to send what users, models and tools said.
        message_bytes: The greatest length of an attribute with messages, in bytes.
    """

    messages: bool = False
    message_bytes: int = 65_536


class StepSpans:
    """Makes the spans of the steps of one session.

    Args:
        steps: The steps.
        place: The place of the session among the traces.
        options: What is sent.

    Attributes:
        own: The attributes that name the session; each span has them.
    """

    def __init__(self, steps: SessionSteps, place: TracePlace, options: SpanOptions) -> None:
        self._steps = steps
        self._place = place
        self._options = options
        self._id = steps.session.id
        self.own: dict[str, Plain] = {
            "gen_ai.conversation.id": self._id,
            "session.id": place.root,
            "lllm.session.id": self._id,
        }

    def agent(self, number: int) -> SpanRecord:
        """Make the span of a call of an agent; it has no tokens, which its attempts have.

        Args:
            number: The number of the call in the session.

        Returns:
            The span.
        """
        began, started, ended = self._steps.agents[number]
        small: dict[str, Plain] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": started.agent,
            **self.own,
            "lllm.agent.call": number,
            "lllm.agent.definition": started.definition,
            "lllm.dialog": started.dialog,
        }
        parent = self._place.span_id
        if started.parent_tool is not None:
            parent = span_id_of(self._id, "tool", started.parent_tool)
        return self._step(
            ("agent", number), ParentSpan(self._place.trace_id, parent),
            f"invoke_agent {started.agent}", INTERNAL, began,
            None if ended is None else ended.elapsed, small,
            ended.error if isinstance(ended, AgentFailed) else None,
        )  # fmt: skip

    def model(self, number: int, definition: AgentDefined | None) -> SpanRecord:
        """Make the span of an attempt to call a model.

        Args:
            number: The number of the attempt in the session.
            definition: What it shares with others, such as its tools; None if it has none.

        Returns:
            The span.
        """
        began, requested = self._steps.requests[number]
        ended = self._steps.answers.get(number)
        small = {
            **request_attributes(requested, _params(definition, requested)),
            **self.own,
            **({} if ended is None else answer_attributes(ended)),
            "gen_ai.agent.name": (ended.agent if ended is not None else "") or None,
            "lllm.refused": self._steps.refused.get(number),
        }
        texts: dict[str, str | None] = {}
        if self._options.messages:
            texts = self._messages(requested, ended, definition)
        return self._step(
            ("model", number), self._parent_of(requested),
            f"{operation_of(requested)} {requested.model}", CLIENT, began,
            None if ended is None else ended.elapsed, small,
            ended.error if isinstance(ended, LLMFailed) else None, texts,
        )  # fmt: skip

    def _parent_of(self, requested: LLMRequested) -> ParentSpan:
        if requested.call is not None:
            agent = span_id_of(self._id, "agent", requested.call)
            return ParentSpan(self._place.trace_id, agent)
        return self._place.parent_of_attempt(requested.traceparent)

    def _messages(
        self, requested: LLMRequested, ended: ModelEnd | None, definition: AgentDefined | None
    ) -> dict[str, str | None]:
        most = self._options.message_bytes
        found: dict[str, str | None] = {}
        if definition is not None:
            found |= definition_attributes(definition, most)
        sent = self._steps.sent(requested)
        if sent:
            found["gen_ai.input.messages"] = input_messages(sent, most)
        if isinstance(ended, LLMResponded):
            found["gen_ai.output.messages"] = output_messages(ended.content, ended.finish, most)
        elif ended is not None and ended.partial is not None:
            found["gen_ai.output.messages"] = output_messages(ended.partial, None, most)
        return found

    def tool(self, number: int) -> SpanRecord:
        """Make the span of a tool call.

        Args:
            number: The number of the call in the session.

        Returns:
            The span.
        """
        began, called, ended = self._steps.tools[number]
        small: dict[str, Plain] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": called.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": called.call_id,
            **self.own,
            "lllm.tool": number,
            "lllm.request": called.request,
            "lllm.tool.repeats": ended.repeats if isinstance(ended, ToolReturned) else None,
        }
        texts: dict[str, str | None] = {}
        if self._options.messages:
            most = self._options.message_bytes
            if called.arguments is not None:
                texts["gen_ai.tool.call.arguments"] = value_text(called.arguments, most)
            if ended is not None:
                texts["gen_ai.tool.call.result"] = cut(ended.content.text, most)
        parent = ParentSpan(self._place.trace_id, self._place.span_id)
        requested = self._steps.requests.get(called.request)
        if requested is not None:
            parent = self._parent_of(requested[1])
        return self._step(
            ("tool", number), parent, f"execute_tool {called.name}", INTERNAL, began,
            None if ended is None else ended.elapsed, small,
            ended.error if isinstance(ended, ToolFailed) else None, texts,
        )  # fmt: skip

    def _step(
        self,
        key: tuple[SpanKey, int],
        parent: ParentSpan,
        name: str,
        kind: int,
        began: int,
        elapsed: int | None,
        small: dict[str, Plain],
        error: Error | None,
        texts: Mapping[str, str | None] | None = None,
    ) -> SpanRecord:
        """Make the span of a step; one without an end ends with the session."""
        end = self._steps.ended if elapsed is None else began + elapsed
        if elapsed is None:
            interrupted = self._steps.session.interrupted is not None
            error = Error(
                "interrupted" if interrupted else "unfinished",
                "The session ended before this step did.",
            )
        if error is not None:
            small |= {
                "error.type": error.type,
                "http.response.status_code": error.status,
                "lllm.error.code": error.code,
            }
        context = SpanContext(parent.trace_id, span_id_of(self._id, *key))
        return make_span(context, parent, name, kind, (began, end), small, error, texts=texts or {})


def make_span(
    context: SpanContext,
    parent: ParentSpan,
    name: str,
    kind: int,
    times: tuple[int, int],
    small: Mapping[str, Plain],
    error: Error | None,
    *,
    texts: Mapping[str, str | None],
    links: tuple[SpanLink, ...] = (),
    tags: Mapping[str, str] | None = None,
) -> SpanRecord:
    """Make a span.

    Args:
        context: Its trace and id.
        parent: Its parent.
        name: Its name.
        kind: INTERNAL or CLIENT.
        times: When it began and ended, nanoseconds UTC.
        small: Its important attributes.
        error: Why it failed; None if it did not.
        texts: Long attributes, which come last.
        links: Its links to other spans.
        tags: Attributes of the user's; None for none.

    Returns:
        The span.
    """
    found = ordered(small, tags=tags, texts=texts)
    start = max(times[0], 0)
    end = max(start, times[1])
    return SpanRecord(
        context=context,
        parent=parent.span_id,
        name=cut(name, _NAME),
        kind=kind,
        start=start,
        end=end,
        attributes=found.values,
        dropped=found.dropped,
        error=None if error is None else cut(error.message, LONG),
        links=links,
        events=() if error is None or error.traceback is None else (_exception(error, end),),
        has_remote_parent=parent.is_outside,
    )


def _params(definition: AgentDefined | None, requested: LLMRequested) -> dict[str, object]:
    found: dict[str, object] = {}
    for params in (None if definition is None else definition.params, requested.params):
        if isinstance(params, dict):
            found |= params
    return found


def _exception(error: Error, time: int) -> SpanEvent:
    attributes: dict[str, AttributeValue] = {
        "exception.type": cut(error.type, LONG),
        "exception.message": cut(error.message, LONG),
        "exception.stacktrace": cut(error.traceback or "", LONG),
    }
    return SpanEvent("exception", time, attributes)
