"""Makes the events of one session from the entries of a transcript, in their order.

The same transcript always gives the same events. So an import that is repeated finds how far the
log has them already, and adds what is new.
"""

from __future__ import annotations

from typing import NamedTuple

from lllm.agents.dialog import request_digest
from lllm.events.model import (
    Ancestor,
    Content,
    DialogOpened,
    Error,
    Event,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Origin,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
    ToolCall,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from lllm.events.values.json_values import to_plain
from lllm.importing.transcripts.transcript_json import arguments_of
from lllm.invokers import Answer
from lllm.pricing.price import price
from lllm.pricing.usage import within_limits
from lllm.pricing.user_prices import PriceTable

_ALREADY_PAID = "edit"  # why a message was added that another session's call had answered


class TimedEvent(NamedTuple):
    """An event, and the time that the transcript gives it, in nanoseconds UTC."""

    time: int
    event: Event


class CallSite(NamedTuple):
    """Which API a transcript's calls went to.

    Attributes:
        provider: The provider that bills, by its name in genai-prices.
        api: The API whose format the answers have, as "messages".
        operation: The kind of request, as "chat".
        host: The host that was called; None if unknown.
        port: The port of the host; None if unknown.
    """

    provider: str
    api: str
    operation: str = "chat"
    host: str | None = None
    port: int | None = None


class RequestFacts(NamedTuple):
    """What is known of a request beside its messages.

    Attributes:
        params: Its parameters, as JSON; None if unknown.
        is_stream: True if the answer was streamed.
        asked: The model that was requested; "" for the model that answered.
    """

    params: object = None
    is_stream: bool = False
    asked: str = ""


_NO_FACTS = RequestFacts()


class SessionSource(NamedTuple):
    """What a session is imported from.

    Attributes:
        session_id: The id of the session in this log; see `derived_id`.
        foreign_id: The id that the other program gave it.
        tactic_path: The stable path under which it is listed, "claude-code::session".
        ancestors: The sessions that it was called in, outermost first.
        parent_tool: The number of the parent's tool call that began it; None if unknown.
        partition: The partition of the store that it is imported into.
    """

    session_id: str
    foreign_id: str
    tactic_path: str
    ancestors: tuple[Ancestor, ...] = ()
    parent_tool: int | None = None
    partition: str = ""


class _OpenTool(NamedTuple):
    number: int
    called: int


class SessionEvents:
    """The events of one session, numbered as they come; `take` gives those that are new.

    Args:
        source: What the session is imported from.
        salt: The salt of the session's stream, 32 bytes.
        prices: The user's own prices; None for none.
    """

    def __init__(self, source: SessionSource, salt: bytes, prices: PriceTable | None) -> None:
        self.source = source
        self._salt = salt
        self._prices = prices
        self._new: list[TimedEvent] = []
        self._dialogs = self._messages = self._requests = self._tools = 0
        self._open_tools: dict[str, _OpenTool] = {}
        self._began: int | None = None
        self.is_ended = False

    def take(self) -> list[TimedEvent]:
        """Take the events that were made since the last time."""
        new, self._new = self._new, []
        return new

    def _add(self, time: int, event: Event) -> None:
        self._new.append(TimedEvent(time, event))

    def start(
        self,
        time: int,
        *,
        task: str | None,
        tags: dict[str, str],
        metadata: object,
        kind: str = "session",
        traceparent: str | None = None,
    ) -> None:
        """Begin the session.

        Args:
            time: The time of its first entry, nanoseconds UTC.
            task: What the user asked first; None if unknown.
            tags: Names and values by which it can be found.
            metadata: Other facts about it, as JSON.
            kind: "call" if it is a single call of a model outside of anything else.
            traceparent: The W3C trace context that it began in; None for none.
        """
        self._began = time
        source = self.source
        self._add(
            time,
            SessionStarted(
                tactic_path=source.tactic_path,
                name=source.tactic_path.rpartition("::")[2],
                kind=kind,
                partition=source.partition,
                task=task,
                tags=tags,
                metadata=to_plain(metadata),
                ancestors=source.ancestors,
                parent_tool=source.parent_tool,
                traceparent=traceparent,
                origin=Origin(source.foreign_id, "import"),
                salt=self._salt,
            ),
        )

    def open_dialog(
        self, time: int, alias: str, *, parent: int | None = None, upto: int | None = None
    ) -> int:
        """Begin a conversation, empty or from the first messages of another one.

        Args:
            time: The time, nanoseconds UTC.
            alias: Its name.
            parent: The number of the conversation whose messages it begins with; None for none.
            upto: The number of the last of these messages; None for an empty conversation.

        Returns:
            The number of the new conversation.
        """
        self._dialogs += 1
        self._add(
            time,
            DialogOpened(dialog=self._dialogs, agent="", alias=alias, parent=parent, upto=upto),
        )
        return self._dialogs

    def add_message(
        self, time: int, dialog: int, content: Content, *, was_paid: bool = False
    ) -> int:
        """Add a message that no call of this session brought.

        Args:
            time: The time, nanoseconds UTC.
            dialog: The conversation.
            content: The message.
            was_paid: True for a copy of what is recorded elsewhere, or made by the program itself.

        Returns:
            The number of the message.
        """
        self._messages += 1
        why = "system" if content.role == "system" else _ALREADY_PAID if was_paid else "user"
        self._add(
            time, MessageAdded(message=self._messages, dialog=dialog, content=content, why=why)
        )
        return self._messages

    @property
    def last_request(self) -> int:
        """The number of the last call of a model; 0 if there was none."""
        return self._requests

    def _request(
        self,
        began: int,
        site: CallSite,
        model: str,
        dialog: int,
        upto: int,
        facts: RequestFacts,
    ) -> int:
        self._requests += 1
        self._add(
            began,
            LLMRequested(
                request=self._requests,
                step=self._requests,
                attempt=1,
                operation=site.operation,
                provider=site.provider,
                api=site.api,
                host=site.host,
                port=site.port,
                model=model,
                dialog=dialog or None,
                upto=upto or None,
                params=to_plain(facts.params),
                stream=facts.is_stream,
                digest=request_digest(self._salt, [model, dialog, upto], ()),
            ),
        )
        return self._requests

    def add_call(
        self,
        began: int,
        ended: int,
        site: CallSite,
        answer: Answer,
        *,
        dialog: int,
        upto: int,
        facts: RequestFacts = _NO_FACTS,
        with_tools: bool = True,
    ) -> int:
        """Add one answered call of a model, and the tools that the answer calls.

        Args:
            began: The time of the entry before it, nanoseconds UTC.
            ended: The time of the answer's last entry, nanoseconds UTC.
            site: The API that was called.
            answer: The answer.
            dialog: The conversation that the call continues.
            upto: The number of the last message that was sent; 0 for none.
            facts: What else is known of the request.
            with_tools: False if `call_tool` adds the tools.

        Returns:
            The number of the message that holds the answer.
        """
        asked = facts.asked or answer.model
        request = self._request(began, site, asked, dialog, upto, facts)
        self._messages += 1
        self._add(
            ended,
            LLMResponded(
                request=request,
                message=self._messages,
                content=answer.content,
                finish=answer.finish,
                finish_raw=answer.finish_raw,
                asked=asked,
                model=answer.model,
                response_id=answer.response_id,
                request_id=answer.request_id,
                service_tier=answer.service_tier,
                fingerprint=answer.fingerprint,
                first_token=answer.first_token,
                usage_raw=to_plain(answer.usage_raw),
                usage=within_limits(answer.usage),
                price=price(
                    answer.usage,
                    provider=site.provider,
                    model=answer.model,
                    at=began,
                    service_tier=answer.service_tier,
                    billed=answer.billed,
                    prices=self._prices,
                    asked=asked if asked != answer.model else None,
                    usage_raw=answer.usage_raw,
                    content=answer.content,
                    host=site.host,
                    port=site.port,
                ),
                elapsed=max(0, ended - began),
            ),
        )
        message = self._messages
        for call in answer.content.tool_calls if with_tools else ():
            self.call_tool(ended, call, arguments_of(call), request=request)
        return message

    def call_tool(self, time: int, call: ToolCall, arguments: object, *, request: int) -> int:
        """Add the beginning of a run of a tool.

        Args:
            time: Its time, nanoseconds UTC.
            call: The call; its id is given to `add_result` with the result.
            arguments: The arguments, as JSON.
            request: The number of the call of a model that asked for it; 0 if none did.

        Returns:
            The number of the run.
        """
        self._tools += 1
        self._open_tools[call.id] = _OpenTool(self._tools, time)
        self._add(
            time,
            ToolCalled(
                tool=self._tools,
                request=request,
                call_id=call.id,
                name=call.name,
                arguments=to_plain(arguments),
            ),
        )
        return self._tools

    def add_failed_call(
        self,
        began: int,
        ended: int,
        site: CallSite,
        error: Error,
        *,
        model: str,
        dialog: int,
        upto: int,
        facts: RequestFacts = _NO_FACTS,
    ) -> None:
        """Add a call that the provider answered with an error.

        Args:
            began: The time of the entry before it, nanoseconds UTC.
            ended: The time of the error, nanoseconds UTC.
            site: The API that was called.
            error: The error.
            model: The model that was asked.
            dialog: The conversation that the call continues.
            upto: The number of the last message that was sent; 0 for none.
            facts: What else is known of the request.
        """
        request = self._request(began, site, model, dialog, upto, facts)
        self._add(
            ended,
            LLMFailed(request=request, asked=model, error=error, elapsed=max(0, ended - began)),
        )

    def add_result(self, time: int, dialog: int, content: Content, *, is_error: bool) -> int:
        """Add the result of a tool.

        Args:
            time: The time, nanoseconds UTC.
            dialog: The conversation.
            content: The message with the result; its `call_id` says which call it answers.
            is_error: True if the tool failed.

        Returns:
            The number of the message.
        """
        tool = self._open_tools.pop(content.call_id or "", None)
        if tool is None:  # called in another session, from which this one was copied
            return self.add_message(time, dialog, content, was_paid=True)
        self._messages += 1
        elapsed = max(0, time - tool.called)
        event: Event
        if is_error:
            event = ToolFailed(
                tool=tool.number,
                message=self._messages,
                content=content,
                error=Error("ToolError", content.text or "The transcript does not say why."),
                elapsed=elapsed,
            )
        else:
            event = ToolReturned(
                tool=tool.number, message=self._messages, content=content, elapsed=elapsed
            )
        self._add(time, event)
        return self._messages

    def tool_number(self, call_id: str) -> int | None:
        """Find the number of a tool call that has no result yet; None if there is none."""
        tool = self._open_tools.get(call_id)
        return None if tool is None else tool.number

    def end(self, time: int, *, delivery: str | None, error: Error | None) -> None:
        """End the session.

        Args:
            time: The time of its last entry, nanoseconds UTC.
            delivery: The last answer; None if there was none.
            error: The error with which it ended; None if it ended well.
        """
        elapsed = max(0, time - (self._began or time))
        self.is_ended = True
        if error is None:
            self._add(time, SessionSucceeded(delivery=delivery, elapsed=elapsed))
        else:
            self._add(time, SessionFailed(error=error, elapsed=elapsed, delivery=delivery or None))
