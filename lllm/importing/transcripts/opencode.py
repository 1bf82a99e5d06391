"""Makes events from the messages of opencode: a session, its messages, and the parts of each."""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.model import Content, Error, Part
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.opencode_messages import (
    NAME,
    OpencodeFacts,
    OpencodeMessage,
    OpencodeStep,
    answer_of,
    end_of,
    error_of,
    nanos_of,
    part_of,
    question_in,
    site_of,
    steps_of,
    tool_call_of,
)
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import tags_of
from lllm.invokers.dialects.provider_json import mapping, text

PATH = f"{NAME}::session"
_SETTLED = 600 * 10**9  # nanoseconds of silence after which the last message is final
_ABORTED = "MessageAbortedError"  # the user stopped the answer


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
            task=question_in(first),
            tags=tags_of(NAME, facts.folder, None),
            metadata={name: value for name, value in known.items() if value},
        )
        self._dialog = self._events.open_dialog(self._began, "conversation")

    def _add(self, time: int, content: Content, *, own: bool) -> None:
        self._end = self._events.add_message(time, self._dialog, content, was_paid=own)

    def _user(self, message: OpencodeMessage) -> None:
        parts = [found for one in message.parts if (found := part_of(one)) is not None]
        if parts:
            own = not question_in(message)  # written by opencode itself
            self._add(message.time, Content("user", tuple(parts)), own=own)

    # -- the model

    def _answer(self, message: OpencodeMessage) -> None:
        site = site_of(message.info)
        model = text(message.info.get("modelID")) or "unknown"
        began = message.time
        for one in message.parts:
            if one.get("type") == "retry":
                at = nanos_of(mapping(one.get("time")).get("created"))
                began = self._failed(site, model, began, mapping(one.get("error")), at)
        steps = steps_of(message)
        for number, step in enumerate(steps, 1):
            is_last = number == len(steps)
            ended = end_of(step, began, message.ended if is_last else None)
            began = self._step(message, step, number, site, model, began, ended)
        failure = mapping(message.info.get("error"))
        if failure and not steps:
            self._failed(site, model, began, failure, message.ended)
        elif failure and failure.get("name") != _ABORTED:
            self._error = error_of(failure)
        if message.info.get("summary") is True:
            self._dialog = self._events.open_dialog(self.last_time, "after a compaction")
            self._end = 0
            self._add(self.last_time, Content.of("user", self._last_text), own=True)

    def _step(
        self,
        message: OpencodeMessage,
        step: OpencodeStep,
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
        answer = answer_of(message, step, number, site.provider, model)
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
            time, tool_call_of(part), state.get("input"), request=self._events.last_request
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
        self._error = error_of(failure)
        self._events.add_failed_call(
            began, time, site, self._error, model=model, dialog=self._dialog, upto=self._end
        )
        self.last_time = max(self.last_time, time)
        return time
