"""Makes events from the recordings of Gemini CLI: one file for each session.

A recording has messages of types user, gemini, info, warning and error. A message is written again,
whole and with the same id, when its tokens and its tools are known. The types are in its source:
https://github.com/google-gemini/gemini-cli/blob/main/packages/core/src/services/chatRecordingTypes.ts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from lllm.events.model import Content, Error, Part, ToolCall
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in, tags_of, time_of
from lllm.instrumentation.generate_content_bodies import FORM
from lllm.invokers import Answer
from lllm.invokers.dialects import generate_content
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text

NAME = "gemini-cli"
PATH = f"{NAME}::session"
_SITE = CallSite("google", "generate_content")
_SETTLED = 600 * 10**9  # nanoseconds of silence after which the last message is final
# What Gemini CLI writes as messages of the user, beside what the user asks.
_OWN = ("<session_context>", "<hook_context>", "<state_snapshot>", "/", "?")
_FAILED = ("error", "cancelled")
_TOKENS = {
    "promptTokenCount": "input", "candidatesTokenCount": "output",
    "cachedContentTokenCount": "cached", "thoughtsTokenCount": "thoughts",
    "toolUsePromptTokenCount": "tool", "totalTokenCount": "total",
}  # fmt: skip


class GeminiMessage(NamedTuple):
    """One message of a recording.

    Attributes:
        time: Its time, nanoseconds UTC.
        id: Its id, which stays when it is written again.
        kind: Its type, as "gemini".
        record: The JSON object.
    """

    time: int
    id: str
    kind: str
    record: Mapping[str, object]

    @property
    def tools(self) -> list[Mapping[str, object]]:
        """The tool calls, with their results as far as these are known."""
        return [mapping(one) for one in items(self.record.get("toolCalls"))]


def message_of(record: Mapping[str, object]) -> GeminiMessage | None:
    """Read a message; None for records of another kind, and for a wrong time."""
    time, name, kind = time_of(record.get("timestamp")), record.get("id"), record.get("type")
    if time is None or not isinstance(name, str) or not isinstance(kind, str):
        return None
    return GeminiMessage(time, name, kind, record)


class RecordingFacts(NamedTuple):
    """What a recording says about its session.

    Attributes:
        id: The id of the session.
        folder: The folder of the project; None if unknown.
        project: The name of the project; None if the folder has it, or if it is unknown.
        is_subagent: True if another session began it.
    """

    id: str
    folder: str | None
    project: str | None
    is_subagent: bool


class GeminiSession:
    """Makes events from the messages of one session, in the order of its file.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
        facts: What the recording says about the session.
        done: The ids of the messages that were written, which those of a later part of the session
            are added to.
        began: The time of the first message, nanoseconds UTC.
    """

    def __init__(
        self,
        events: SessionEvents,
        owners: CallOwners,
        facts: RecordingFacts,
        done: set[str],
        began: int,
    ) -> None:
        self._events = events
        self._owners = owners
        self._facts = facts
        self._done = done
        self._began = self.last_time = began
        self._early: list[GeminiMessage] = []  # before the first question is known
        self._waiting: GeminiMessage | None = None  # may be written again
        self._places: dict[str, tuple[int, int]] = {}  # by id: the dialog and the message before it
        self._order: list[str] = []  # the ids of the messages of the conversation as it is now
        self._dialog = self._end = 0
        self._written = 0  # the time of what was written last
        self._late: tuple[str, int, set[str]] = ("", 0, set())  # the last call, and its tools
        self._last_text, self._model = "", "unknown"
        self._error: Error | None = None
        self.subagents: dict[str, int] = {}
        """By the id of a sub-agent: the number of the tool call that began it."""

    def add(self, message: GeminiMessage) -> None:
        """Add a message, or what is known of it now."""
        waiting = self._waiting
        if waiting is not None and waiting.id == message.id:
            self._waiting = message
            return
        if message.id == self._late[0]:
            self._late_tools(message)
            return
        if message.id in self._done:
            return
        self._finish()
        self._waiting = message
        self.last_time = max(self.last_time, message.time)

    def rewind(self, message_id: str) -> None:
        """Go back to before a message; an unknown one is taken for the first."""
        self._finish()
        if not self._dialog:
            return
        parent, upto = self._places.get(message_id, (0, 0))
        self._open("from an earlier message", parent, upto)
        at = self._order.index(message_id) if message_id in self._order else 0
        del self._order[at:]

    def replace(self, messages: Sequence[GeminiMessage]) -> None:
        """Take the whole conversation as it is from now on, for example after a compaction."""
        self._finish()
        told = [one for one in messages if one.kind in ("user", "gemini")]
        order = [one.id for one in told]
        if order == self._order or not self._dialog:
            return
        self._open("after a compaction", 0, 0)
        self._order = order
        for one in told:
            self._place(one)
            for content in _contents(one):
                self._copy(content)
            self._done.add(one.id)

    def settle(self, now: int, *, changed: int) -> None:
        """Write a message that is complete; see `Conversation.settle`."""
        waiting = self._waiting
        if waiting is None or now - changed <= _SETTLED:
            return
        if waiting.kind != "gemini" or all(map(_is_over, waiting.tools)):
            self._finish()

    def end(self) -> None:
        """End the session with its last message; see `Conversation.end`."""
        self._finish()
        if not self._dialog:
            self._start()
        if not self._events.is_ended:
            self._events.end(self.last_time, delivery=self._last_text, error=self._error)

    # -- the parts of a session

    def _finish(self) -> None:
        """Write the message that is complete."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        self._done.add(waiting.id)
        if self._dialog:
            self._write(waiting)
            return
        self._early.append(waiting)
        if question_in(waiting) or waiting.kind == "gemini":
            self._start()

    def _start(self) -> None:
        facts = self._facts
        tags = tags_of(NAME, facts.folder, None)
        if facts.project and "project" not in tags:
            tags["project"] = facts.project
        known = {"session": facts.id, "cwd": facts.folder}
        metadata = {name: value for name, value in known.items() if value}
        asked = next((found for one in self._early if (found := question_in(one))), "")
        self._events.start(self._began, task=asked, tags=tags, metadata=metadata)
        self._dialog = self._events.open_dialog(self._began, "conversation")
        early, self._early = self._early, []
        for one in early:
            self._write(one)

    def _open(self, alias: str, parent: int, upto: int) -> None:
        is_copy = bool(parent and upto)
        self._dialog = self._events.open_dialog(
            self.last_time, alias,
            parent=parent if is_copy else None, upto=upto if is_copy else None,
        )  # fmt: skip
        self._end = upto if is_copy else 0

    def _place(self, message: GeminiMessage) -> None:
        self._places[message.id] = (self._dialog, self._end)

    def _write(self, message: GeminiMessage) -> None:
        self._place(message)
        if message.kind == "gemini":
            self._order.append(message.id)
            self._answer(message)
        elif message.kind == "user":
            self._order.append(message.id)
            self._user(message)
        elif message.kind == "error":
            self._error = Error("GeminiError", _said(message) or "The recording does not say why.")
        self._written = max(self._written, message.time)

    def _copy(self, content: Content) -> None:
        self._end = self._events.add_message(self.last_time, self._dialog, content, was_paid=True)

    def _user(self, message: GeminiMessage) -> None:
        """Write a message of the user; results that it repeats are there already."""
        for content in _contents(message):
            if content.role == "user":
                own = content.text.lstrip().startswith(_OWN)
                self._end = self._events.add_message(
                    message.time, self._dialog, content, was_paid=own
                )
            elif self._events.tool_number(content.call_id or "") is not None:
                self._end = self._events.add_result(
                    message.time, self._dialog, content, is_error=False
                )

    # -- the model

    def _answer(self, message: GeminiMessage) -> None:
        self._error = None
        began = min(self._written or message.time, message.time)
        if self._events.last_request and _is_of_call_before(message):
            self._run_tools(message, self._events.last_request, set())
            return
        answer = _answer(message, self._model)
        self._model = answer.model
        self._last_text = answer.content.text or self._last_text
        own = self._events.source.session_id
        name = answer.response_id or ""
        if not _is_call(message) or self._owners.is_elsewhere(name, own):
            self._end = self._events.add_message(
                message.time, self._dialog, answer.content, was_paid=True
            )
            self._results(message, {text(one.get("id")) or "" for one in message.tools})
            return
        self._end = self._events.add_call(
            began, message.time, _SITE, answer,
            dialog=self._dialog, upto=self._end, with_tools=False,
        )  # fmt: skip
        self._late = (message.id, self._events.last_request, set())
        self._run_tools(message, self._events.last_request, self._late[2])

    def _late_tools(self, message: GeminiMessage) -> None:
        """Write the tools of the last call that were not known when it was written."""
        _, request, known = self._late
        self._run_tools(message, request, known)

    def _run_tools(self, message: GeminiMessage, request: int, known: set[str]) -> None:
        """Write the tools that a message called, and their results.

        Args:
            message: The message.
            request: The number of the call of the model.
            known: The ids of the tools that are written, to which these are added.
        """
        new = {text(one.get("id")) or "" for one in message.tools} - known
        for one in message.tools:
            call = _tool_call(one)
            if call.id in new:
                number = self._events.call_tool(
                    message.time, call, one.get("args"), request=request
                )
                if agent := text(one.get("agentId")):
                    self.subagents[agent] = number
        known |= new
        self._results(message, new)

    def _results(self, message: GeminiMessage, new: set[str]) -> None:
        for one in message.tools:
            if (text(one.get("id")) or "") not in new or not _is_over(one):
                continue
            time = max(message.time, time_of(one.get("timestamp")) or message.time)
            self._end = self._events.add_result(
                time, self._dialog, _result(one), is_error=one.get("status") in _FAILED
            )
            self._written = max(self._written, time)
            self.last_time = max(self.last_time, time)


def question_in(message: GeminiMessage) -> str:
    """Read what the user asked; "" if the message is something else."""
    said = _said(message) if message.kind == "user" else ""
    return "" if said.lstrip().startswith(_OWN) else said


def _pieces(value: object) -> list[object]:
    """Read what Google's library calls a part list: a text, a part, or a list of these."""
    several = value if isinstance(value, list) else [value]
    return [{"text": one} if isinstance(one, str) else one for one in several if one]


def _contents(message: GeminiMessage) -> list[Content]:
    pieces = _pieces(message.record.get("content"))
    if message.kind == "gemini":
        return [_answer(message, "").content]
    found = FORM.each({"role": "user", "parts": pieces})
    return [one for one in found if one.parts]


def _said(message: GeminiMessage) -> str:
    return "".join(one.text for one in _contents(message) if one.role == "user")


def _is_call(message: GeminiMessage) -> bool:
    """True if a message came from the model; Gemini CLI adds others itself, without tokens."""
    return bool(message.record.get("tokens") or message.record.get("model"))


def _is_of_call_before(message: GeminiMessage) -> bool:
    """True if a message has only the tools that the message before it called."""
    others = ("content", "thoughts", "tokens")
    return bool(message.tools) and not any(message.record.get(name) for name in others)


def _answer(message: GeminiMessage, model: str) -> Answer:
    """Give a message the form of an answer of generateContent."""
    pieces = _pieces(message.record.get("content"))
    if not any("functionCall" in mapping(one) or mapping(one).get("thought") for one in pieces):
        thoughts = [_thought(mapping(one)) for one in items(message.record.get("thoughts"))]
        calls = [{"functionCall": _called(one)} for one in message.tools]
        pieces = [*thoughts, *pieces, *calls]
    body: dict[str, object] = {
        "candidates": [{"content": {"role": "model", "parts": pieces}}],
        "modelVersion": text(message.record.get("model")) or model,
    }
    tokens = mapping(message.record.get("tokens"))
    if number_in(tokens.get("input")) or number_in(tokens.get("output")):  # zeros stand for unknown
        body["usageMetadata"] = {
            name: tokens[own] for name, own in _TOKENS.items() if own in tokens
        }
    answer = generate_content.answer(body, model=model, request_id=None)
    return msgspec.structs.replace(
        answer,
        finish="tool_calls" if answer.content.tool_calls else "stop",
        response_id=f"{NAME}:{message.id}",
    )


def _thought(thought: Mapping[str, object]) -> dict[str, object]:
    subject, about = text(thought.get("subject")), text(thought.get("description")) or ""
    return {"text": f"**{subject}** {about}" if subject else about, "thought": True}


def _called(tool: Mapping[str, object]) -> dict[str, object]:
    return {name: tool.get(name) for name in ("id", "name", "args")}


def _tool_call(tool: Mapping[str, object]) -> ToolCall:
    return ToolCall(
        text(tool.get("id")) or "", text(tool.get("name")) or "", arguments_text(tool.get("args"))
    )


def _is_over(tool: Mapping[str, object]) -> bool:
    return bool(tool.get("result")) or tool.get("status") in ("success", *_FAILED)


def _result(tool: Mapping[str, object]) -> Content:
    """Read the result of a tool; it was cut at 50 KB by Gemini CLI."""
    call_id = text(tool.get("id")) or ""
    found = tool.get("result")
    if isinstance(found, str):
        return Content("tool", (Part("text", found),), call_id=call_id)
    told = FORM.each({"role": "user", "parts": _pieces(found)})
    parts = tuple(part for one in told for part in one.parts)
    if not parts and (shown := text(tool.get("resultDisplay"))):
        parts = (Part("text", shown),)
    return Content("tool", parts, call_id=call_id)
