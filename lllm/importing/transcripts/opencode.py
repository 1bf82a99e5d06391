"""Makes events from the messages of opencode: a session, its messages, and the parts of each.

A message of the assistant has one or more steps, each a call of the model, between parts
`step-start` and `step-finish`; the latter says what the step used. The types are in the source:
https://github.com/anomalyco/opencode/blob/dev/packages/opencode/src/session/message-v2.ts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lllm.events.model import Content, Error, Part, ToolCall, Usage
from lllm.importing.otlp.provider_names import provider_name
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in, tags_of
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import arguments_text, mapping, text

NAME = "opencode"
PATH = f"{NAME}::session"
_SETTLED = 600 * 10**9  # nanoseconds of silence after which the last message is final
_APIS = {"anthropic": "messages", "openai": "responses", "google": "generate_content"}
_LAST_TIME = 9_000_000_000_000  # milliseconds since 1970, in the year 2255
_DEFAULT_TITLES = ("New session - ", "Child session - ")
_ABORTED = "MessageAbortedError"  # the user stopped the answer


class OpencodeFacts(NamedTuple):
    """What opencode knows of a session.

    Attributes:
        id: Its id.
        parent: The id of the session whose tool began it; "" for none.
        folder: The folder that it works in; None if unknown.
        title: Its title; None if it has none yet.
        version: The version of opencode.
        updated: When it was last changed, nanoseconds UTC.
    """

    id: str
    parent: str
    folder: str | None
    title: str | None
    version: str
    updated: int


def nanos_of(milliseconds: object) -> int | None:
    """Read a time in milliseconds since 1970, as nanoseconds UTC; None for anything else."""
    if isinstance(milliseconds, float) and milliseconds.is_integer():
        milliseconds = int(milliseconds)
    if not isinstance(milliseconds, int) or not 0 < milliseconds < _LAST_TIME:
        return None
    return milliseconds * 1_000_000


def title_in(title: object) -> str | None:
    """Read a title; None for the one that a session has before it gets its own."""
    found = text(title)
    return None if not found or found.startswith(_DEFAULT_TITLES) else found


class OpencodeMessage(NamedTuple):
    """A message with its parts.

    Attributes:
        time: When it was made, nanoseconds UTC.
        id: Its id.
        info: The message.
        parts: Its parts, in order.
    """

    time: int
    id: str
    info: Mapping[str, object]
    parts: list[Mapping[str, object]]

    @property
    def is_final(self) -> bool:
        """True if opencode will not change it any more."""
        if self.info.get("role") == "user":
            return bool(self.parts)
        return self.ended is not None or bool(self.info.get("error"))

    @property
    def ended(self) -> int | None:
        """When an answer was complete, nanoseconds UTC; None if it is not."""
        return nanos_of(mapping(self.info.get("time")).get("completed"))


class _Step:
    """One call of the model within a message: the parts that it answered, and what it used."""

    def __init__(self) -> None:
        self.parts: list[Mapping[str, object]] = []
        self.used: Mapping[str, object] | None = None


class OpencodeSession:
    """Makes events from the messages of one session, oldest first.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
        facts: What opencode knows of the session.
        began: The time of the first message, nanoseconds UTC.
    """

    def __init__(
        self, events: SessionEvents, owners: CallOwners, facts: OpencodeFacts, began: int
    ) -> None:
        self._events = events
        self._owners = owners
        self._facts = facts
        self._began = self.last_time = began
        self.updated = facts.updated
        """When opencode last changed it, nanoseconds UTC."""
        self._waiting: OpencodeMessage | None = None  # may still change
        self._dialog = self._end = 0
        self._last_text = ""
        self._error: Error | None = None
        self.finished: tuple[int, str] = (0, "")
        """The time and the id of the last message that was written."""
        self.subagents: dict[str, int] = {}
        """By the id of a session below: the number of the tool call that began it."""

    def add(self, message: OpencodeMessage) -> None:
        """Add a message, or what is known of it now."""
        if self._waiting is not None and self._waiting.id != message.id:
            self._finish()
        self._waiting = message
        self.last_time = max(self.last_time, message.ended or message.time)
        if message.is_final:
            self._finish()

    def settle(self, now: int, *, changed: int) -> None:
        """Write a message that is complete; see `Conversation.settle`."""
        if now - max(changed, self.last_time) > _SETTLED:
            self._finish()

    def end(self) -> None:
        """End the session with its last message; see `Conversation.end`."""
        self._finish()
        if not self._events.is_ended:
            self._events.end(self.last_time, delivery=self._last_text, error=self._error)

    def _finish(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if not self._dialog:
            self._start(waiting)
        if waiting.info.get("role") == "assistant":
            self._answer(waiting)
        else:
            self._user(waiting)
        self.finished = (waiting.time, waiting.id)

    def _start(self, first: OpencodeMessage) -> None:
        facts = self._facts
        known = {"session": facts.id, "cwd": facts.folder, "version": facts.version}
        self._events.start(
            self._began,
            task=_question(first),
            tags=tags_of(NAME, facts.folder, None),
            metadata={name: value for name, value in known.items() if value},
        )
        self._dialog = self._events.open_dialog(self._began, "conversation")

    def _add(self, time: int, content: Content, *, own: bool) -> None:
        self._end = self._events.add_message(time, self._dialog, content, was_paid=own)

    def _user(self, message: OpencodeMessage) -> None:
        parts = [found for one in message.parts if (found := _part(one)) is not None]
        if parts:
            own = not _question(message)  # written by opencode itself
            self._add(message.time, Content("user", tuple(parts)), own=own)

    # -- the model

    def _answer(self, message: OpencodeMessage) -> None:
        site = _site(message.info)
        model = text(message.info.get("modelID")) or "unknown"
        began = message.time
        for one in message.parts:
            if one.get("type") == "retry":
                at = nanos_of(mapping(one.get("time")).get("created"))
                began = self._failed(site, model, began, mapping(one.get("error")), at)
        steps = _steps(message)
        for number, step in enumerate(steps, 1):
            is_last = number == len(steps)
            ended = _ended(step, began, message.ended if is_last else None)
            began = self._step(message, step, number, site, model, began, ended)
        failure = mapping(message.info.get("error"))
        if failure and not steps:
            self._failed(site, model, began, failure, message.ended)
        elif failure and failure.get("name") != _ABORTED:
            self._error = _error(failure)
        if message.info.get("summary") is True:
            self._dialog = self._events.open_dialog(self.last_time, "after a compaction")
            self._end = 0
            self._add(self.last_time, Content.of("user", self._last_text), own=True)

    def _step(
        self,
        message: OpencodeMessage,
        step: _Step,
        number: int,
        site: CallSite,
        model: str,
        began: int,
        ended: int,
    ) -> int:
        """Write one call of the model and its tools.

        Returns:
            The time at which the next call can begin, nanoseconds UTC.
        """
        self._error = None
        answer = _answer(message, step, number, site.provider, model)
        self._last_text = answer.content.text or self._last_text
        is_copy = self._owners.is_elsewhere(
            answer.response_id or "", self._events.source.session_id
        )
        if is_copy:
            self._add(ended, answer.content, own=True)
        else:
            self._end = self._events.add_call(
                began, ended, site, answer,
                dialog=self._dialog, upto=self._end, with_tools=False,
            )  # fmt: skip
        tools = [one for one in step.parts if one.get("type") == "tool"]
        if not is_copy:
            for one in tools:
                self._call(one, ended)
        return max([ended, *(self._result(one, ended) for one in tools)])

    def _call(self, part: Mapping[str, object], time: int) -> None:
        state = mapping(part.get("state"))
        number = self._events.call_tool(
            time, _tool_call(part), state.get("input"), request=self._events.last_request
        )
        if below := text(mapping(state.get("metadata")).get("sessionId")):
            self.subagents[below] = number

    def _result(self, part: Mapping[str, object], called: int) -> int:
        """Write the result of a tool; see `_step` for what is returned."""
        state = mapping(part.get("state"))
        times = mapping(state.get("time"))
        time = max(called, nanos_of(times.get("end")) or called)
        status = state.get("status")
        said = text(state.get("output")) if status == "completed" else text(state.get("error"))
        if status not in ("completed", "error"):
            said = "It was interrupted."
        content = Content(
            "tool", (Part("text", said or ""),), call_id=text(part.get("callID")) or ""
        )
        # A call of a tool that does not exist runs the tool `invalid`, which says so.
        failed = status != "completed" or part.get("tool") == "invalid"
        self._end = self._events.add_result(time, self._dialog, content, is_error=failed)
        self.last_time = max(self.last_time, time)
        return time

    def _failed(
        self,
        site: CallSite,
        model: str,
        began: int,
        failure: Mapping[str, object],
        ended: int | None,
    ) -> int:
        """Write a call that failed; see `_step` for what is returned."""
        time = max(began, ended or began)
        self._error = _error(failure)
        self._events.add_failed_call(
            began, time, site, self._error, model=model, dialog=self._dialog, upto=self._end
        )
        self.last_time = max(self.last_time, time)
        return time


def _question(message: OpencodeMessage) -> str:
    """Read what the user wrote; "" if opencode wrote the message."""
    said = [
        text(one.get("text")) or ""
        for one in message.parts
        if one.get("type") == "text" and not one.get("synthetic") and not one.get("ignored")
    ]
    return "".join(said) if message.info.get("role") == "user" else ""


def _part(part: Mapping[str, object]) -> Part | None:
    """Read a part of a message; None for those that the model does not see, and for tools."""
    kind = part.get("type")
    if kind in ("text", "reasoning"):
        return None if part.get("ignored") else Part(str(kind), text(part.get("text")) or "")
    if kind == "file":
        media = (text(part.get("mime")) or "").partition("/")[0]
        known = media if media in ("image", "audio", "video") else "file"
        return Part(known, data={key: part[key] for key in _FILE if part.get(key)})
    if kind in ("agent", "subtask"):
        return Part(str(kind), data={key: part[key] for key in _AGENT if part.get(key)})
    return None


_FILE = ("mime", "filename", "url")
_AGENT = ("name", "agent", "prompt", "description", "command")


def _steps(message: OpencodeMessage) -> list[_Step]:
    """Divide the parts of an answer by the calls of the model."""
    steps: list[_Step] = []
    is_open = False
    for one in message.parts:
        kind = one.get("type")
        if kind == "step-start" or (not is_open and kind in ("text", "reasoning", "tool")):
            steps.append(_Step())
            is_open = True
        if not steps:
            continue
        if kind == "step-finish":
            steps[-1].used = {**mapping(one.get("tokens")), "cost": one.get("cost")}
            is_open = False
        elif kind in ("text", "reasoning", "tool", "file"):
            steps[-1].parts.append(one)
    steps = [one for one in steps if one.parts or one.used is not None]
    if len(steps) == 1 and steps[0].used is None:  # versions whose steps don't say it
        steps[0].used = {**mapping(message.info.get("tokens")), "cost": message.info.get("cost")}
    return steps


def _ended(step: _Step, began: int, completed: int | None) -> int:
    """Find when a call had been answered: before its tools ran, and with its last part."""
    tools, parts = [], []
    for one in step.parts:
        if one.get("type") == "tool":
            tools.append(nanos_of(mapping(mapping(one.get("state")).get("time")).get("start")))
        else:
            parts.append(nanos_of(mapping(one.get("time")).get("end")))
    known = [one for one in tools or parts if one is not None]
    found = (min if tools else max)(known) if known else completed
    return max(began, found or began)


def _site(info: Mapping[str, object]) -> CallSite:
    provider = provider_name(text(info.get("providerID")) or "", None, None)
    return CallSite(provider, _APIS.get(provider, "chat.completions"))


def _answer(
    message: OpencodeMessage, step: _Step, number: int, provider: str, model: str
) -> Answer:
    parts = tuple(found for one in step.parts if (found := _part(one)) is not None)
    calls = tuple(_tool_call(one) for one in step.parts if one.get("type") == "tool")
    used = {} if step.used is None else step.used
    usage = _usage(used, provider)
    # A fork copies messages under new ids, and keeps their times and tokens.
    name = (message.time, message.ended, number, model, used.get("input"), used.get("output"))
    return Answer(
        content=Content("assistant", parts, calls),
        finish="tool_calls" if calls else "stop",
        model=model,
        response_id=f"{NAME}:" + ":".join(map(str, name)),
        usage_raw=None if usage is None else _raw(usage, used.get("cost")),
        usage=usage,
    )


def _usage(used: Mapping[str, object], provider: str) -> Usage | None:
    """Read what a call used; None if it is unknown.

    The input excludes what the cache has. The output excludes the reasoning where a total says so;
    versions that wrote no total took both from the AI SDK, in which only Google's output
    excluded it.
    """
    cache = mapping(used.get("cache"))
    read, written = number_in(cache.get("read")), number_in(cache.get("write"))
    given, output = number_in(used.get("input")), number_in(used.get("output"))
    reasoning, total = number_in(used.get("reasoning")), number_in(used.get("total"))
    everything = given + read + written
    counts = (read, written, given, output, reasoning)
    if not any(counts) or min(counts) < 0:
        return None
    beside = total >= everything + output + reasoning if total else provider == "google"
    return Usage(
        input=everything,
        output=output + (reasoning if beside else 0),
        cache_read=read,
        cache_write_5m=written,
        reasoning=reasoning,
    )


def _raw(usage: Usage, cost: object) -> dict[str, object]:
    """Write a usage in OpenAI's form, with the dollars that opencode estimated."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        "cost": cost,
    }


def _tool_call(part: Mapping[str, object]) -> ToolCall:
    return ToolCall(
        text(part.get("callID")) or "",
        text(part.get("tool")) or "",
        arguments_text(mapping(part.get("state")).get("input")),
    )


def _error(failure: Mapping[str, object]) -> Error:
    about = mapping(failure.get("data"))
    status = about.get("statusCode")
    return Error(
        text(failure.get("name")) or "UnknownError",
        text(about.get("message")) or "opencode does not say why.",
        status=status if isinstance(status, int) else None,
    )
