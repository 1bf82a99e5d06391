"""Makes events from the log of the tool llm: a conversation, and the calls of models in it.

https://llm.datasette.io/en/stable/logging.html describes the log. Version 0.32 began to store each
message once, under a hash that covers those before it; what older versions stored stays in other
tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lllm.events.model import Content, Part, ToolCall, Usage
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, RequestFacts, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import arguments_text, mapping, text
from lllm.pricing.usage import of_chat, of_messages

NAME = "llm"
PATH = f"{NAME}::conversation"


class LoggedMessage(NamedTuple):
    """A message that was sent or answered.

    Attributes:
        hash: Its hash, which covers the messages before it; "" in the log of an older version.
        contents: The message in lllm's terms; results of tools are separate.
        failed: The ids of the tool calls in it that failed.
    """

    hash: str
    contents: tuple[Content, ...]
    failed: frozenset[str] = frozenset()


class LoggedCall(NamedTuple):
    """One call of a model.

    Attributes:
        id: Its id.
        conversation: The id of the conversation.
        began: When it began, nanoseconds UTC.
        ended: When it was answered, nanoseconds UTC.
        model: The model by llm's name for it.
        answered: The model that answered; "" if unknown.
        response_id: The provider's id of the answer; None if unknown.
        params: The options of the call; None for none.
        used: What it used, in the form of the provider; None if unknown.
        sent: A function that reads the messages that were sent, up to the one of a known hash.
        answer: The messages that the model answered.
    """

    id: str
    conversation: str
    began: int
    ended: int
    model: str
    answered: str
    response_id: str | None
    params: object
    used: Mapping[str, object] | None
    sent: Callable[[Callable[[str], bool]], tuple[str, list[LoggedMessage]]]
    answer: list[LoggedMessage]


class LlmConversation:
    """Makes events from the calls of one conversation, in the order of the log.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
        title: The name of the conversation.
        began: The time of the first call, nanoseconds UTC.
    """

    def __init__(self, events: SessionEvents, owners: CallOwners, title: str, began: int) -> None:
        self._events = events
        self._owners = owners
        self._title = title
        self._began = self.last_time = began
        self._places: dict[str, tuple[int, int]] = {}  # by hash: the dialog and the message
        self._dialog = self._end = 0
        self._last_text = ""

    def add(self, call: LoggedCall) -> None:
        """Add the next call."""
        base, sent = call.sent(self._places.__contains__)
        if not self._dialog:
            self._start(call, sent)
        elif base or (sent and sent[0].hash):
            self._branch(base)
        for one in sent:
            self._sent(call.began, one)
        answer = _answer(call)
        self._last_text = answer.content.text or self._last_text
        if call.response_id and self._owners.is_elsewhere_at(
            call.response_id, self._events.source.session_id, began=call.began, ended=call.ended
        ):
            self._end = self._events.add_message(
                call.ended, self._dialog, answer.content, was_paid=True
            )
        else:
            self._end = self._events.add_call(
                call.began, call.ended, CallSite("", "chat.completions"), answer,
                dialog=self._dialog, upto=self._end,
                facts=RequestFacts(params=call.params, asked=call.model),
            )  # fmt: skip
        for one in call.answer:
            self._place(one)
        self.last_time = max(self.last_time, call.ended)

    def settle(self, now: int, *, changed: int) -> None:
        """Write nothing: a call is logged when it is complete. See `Conversation.settle`."""

    def end(self) -> None:
        """End the session with its last call; see `Conversation.end`."""
        if not self._events.is_ended:
            self._events.end(self.last_time, delivery=self._last_text, error=None)

    def _start(self, call: LoggedCall, sent: Sequence[LoggedMessage]) -> None:
        asked = [one.text for message in sent for one in message.contents if one.role == "user"]
        task = next((one for one in asked if one), self._title)
        metadata = {"conversation": call.conversation}
        self._events.start(self._began, task=task, tags={"source": NAME}, metadata=metadata)
        self._dialog = self._events.open_dialog(self._began, "conversation")

    def _branch(self, base: str) -> None:
        """Go on from an earlier message, or from the beginning."""
        dialog, upto = self._places.get(base, (0, 0))
        if (dialog, upto) == (self._dialog, self._end):
            return
        self._dialog = self._events.open_dialog(
            self.last_time, "from an earlier message", parent=dialog or None, upto=upto or None
        )
        self._end = upto

    def _place(self, message: LoggedMessage) -> None:
        if message.hash:
            self._places[message.hash] = (self._dialog, self._end)

    def _sent(self, time: int, message: LoggedMessage) -> None:
        for one in message.contents:
            if one.role == "tool":
                self._end = self._events.add_result(
                    time, self._dialog, one, is_error=one.call_id in message.failed
                )
            else:  # an answer that is sent was paid in another conversation
                self._end = self._events.add_message(
                    time, self._dialog, one, was_paid=one.role == "assistant"
                )
        self._place(message)


def content_of(role: str, parts: Sequence[Mapping[str, object]]) -> LoggedMessage:
    """Read a message from its parts, each in the form that llm gives it.

    Args:
        role: The role, as "user".
        parts: The parts; each has its `type`.

    Returns:
        The message, without its hash.
    """
    own: list[Part] = []
    calls: list[ToolCall] = []
    results: list[Content] = []
    failed: set[str] = set()
    for one in parts:
        kind, said = str(one.get("type")), text(one.get("text")) or ""
        name = text(one.get("tool_call_id")) or ""
        if kind == "tool_call" and not one.get("server_executed"):
            tool = text(one.get("name")) or ""
            calls.append(ToolCall(name, tool, arguments_text(one.get("arguments"))))
        elif kind == "tool_result" and not one.get("server_executed"):
            wrong = text(one.get("exception"))
            said = text(one.get("output")) or wrong or ""
            results.append(Content("tool", (Part("text", said),), call_id=name))
            failed |= {name} if wrong else set()
        elif kind in ("text", "reasoning"):
            own += [Part(kind, said)] if said else []
        else:
            own.append(Part(kind, data=dict(one)))
    if own or calls or not results:
        whole = (*results, Content(role, tuple(own), tuple(calls)))
        return LoggedMessage("", whole, frozenset(failed))
    return LoggedMessage("", tuple(results), frozenset(failed))


def usage_in(given: object, output: object, details: object) -> Mapping[str, object] | None:
    """Put together what a call used, in the form of the provider; None if it is unknown.

    Args:
        given: The input tokens.
        output: The output tokens.
        details: The details as the provider named them, decoded from JSON.
    """
    if not isinstance(given, int) or not isinstance(output, int):
        return None
    more = dict(mapping(details))
    if "cache_read_input_tokens" in more or "cache_creation_input_tokens" in more:
        return {"input_tokens": given, "output_tokens": output, **more}
    return {"prompt_tokens": given, "completion_tokens": output, **more}


def _usage(used: Mapping[str, object]) -> Usage | None:
    if "input_tokens" in used:
        return of_messages(used)
    found = of_chat(used)
    # The plugin for Gemini names it so, and adds the thoughts to the output.
    cached = number_in(used.get("cachedContentTokenCount"))
    if found is None or not cached:
        return found
    return Usage(input=found.input, output=found.output, cache_read=cached)


def _answer(call: LoggedCall) -> Answer:
    contents = [one for message in call.answer for one in message.contents]
    own = [one for one in contents if one.role == "assistant"]
    parts = tuple(part for one in own for part in one.parts)
    calls = tuple(wish for one in own for wish in one.tool_calls)
    return Answer(
        content=Content("assistant", parts, calls),
        finish="tool_calls" if calls else "stop",
        model=call.answered or call.model,
        response_id=call.response_id,
        usage_raw=call.used,
        usage=None if call.used is None else _usage(call.used),
    )
