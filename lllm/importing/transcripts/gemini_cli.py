"""Makes events from the recordings of Gemini CLI: one file for each session.

A recording has messages of types user, gemini, info, warning and error. A message is written again,
whole and with the same id, when its tokens and its tools are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lllm.events.model import Content, Error
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.gemini_records import (
    NAME,
    OWN_TEXTS,
    GeminiMessage,
    answer_of,
    contents_of,
    is_call,
    is_of_call_before,
    is_over,
    question_in,
    result_of,
    said_in,
    tool_call_of,
)
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import tags_of, time_of
from lllm.invokers.dialects.provider_json import text

PATH = f"{NAME}::session"
_SITE = CallSite("google", "generate_content")
_SETTLED = 600 * 10**9  # nanoseconds of silence after which the last message is final
_FAILED = ("error", "cancelled")


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
            for content in contents_of(one):
                self._copy(content)
            self._done.add(one.id)

    def settle(self, now: int, *, changed: int) -> None:
        """Write a message that is complete; see `Conversation.settle`."""
        waiting = self._waiting
        if waiting is None or now - changed <= _SETTLED:
            return
        if waiting.kind != "gemini" or all(map(is_over, waiting.tools)):
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
            self._error = Error(
                "GeminiError", said_in(message) or "The recording does not say why."
            )
        self._written = max(self._written, message.time)

    def _copy(self, content: Content) -> None:
        self._end = self._events.add_message(self.last_time, self._dialog, content, was_paid=True)

    def _user(self, message: GeminiMessage) -> None:
        """Write a message of the user; results that it repeats are there already."""
        for content in contents_of(message):
            if content.role == "user":
                own = content.text.lstrip().startswith(OWN_TEXTS)
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
        if self._events.last_request and is_of_call_before(message):
            self._run_tools(message, self._events.last_request, set())
            return
        answer = answer_of(message, self._model)
        self._model = answer.model
        self._last_text = answer.content.text or self._last_text
        own = self._events.source.session_id
        name = answer.response_id or ""
        if not is_call(message) or self._owners.is_elsewhere(name, own):
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
            call = tool_call_of(one)
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
            if (text(one.get("id")) or "") not in new or not is_over(one):
                continue
            time = max(message.time, time_of(one.get("timestamp")) or message.time)
            self._end = self._events.add_result(
                time, self._dialog, result_of(one), is_error=one.get("status") in _FAILED
            )
            self._written = max(self._written, time)
            self.last_time = max(self.last_time, time)
