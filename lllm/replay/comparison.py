"""Compares a request with the recorded one, and shows how they differ.

Both are compared as the log has them, so the present request is redacted first. What is equal
without that needs no redaction. A message that was found equal is not compared again in the next
request of its dialog, so the time grows with the length of a conversation, not with its square.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Literal, cast

import msgspec

from lllm.events import codec
from lllm.events.model import (
    EVENTS,
    AgentDefined,
    Content,
    Event,
    LLMResponded,
    SessionStarted,
    ToolFailed,
    ToolReturned,
)
from lllm.events.redaction.redact import COUNTS, Redact, payload
from lllm.events.values.json_values import to_plain
from lllm.invokers import Request
from lllm.invokers.secret_params import without_secrets
from lllm.replay.ignored_parts import Ignored
from lllm.replay.recorded_agents import MessageEvent, RecordedAttempt

Verdict = Literal["same", "ignored", "diverged"]

_CONTEXT = 3  # the number of unchanged lines that a diff shows around a change


class Comparison(msgspec.Struct, frozen=True):
    """The result of comparing two requests.

    Attributes:
        differs: The names of the parts that differ; empty if none does.
        diff: A unified diff from the recorded request to the present one; empty if none differs.
    """

    verdict: Verdict
    """"ignored" if the requests are the same only without the ignored parts."""
    differs: tuple[str, ...] = ()
    diff: str = ""


SAME = Comparison("same")


class Comparing:
    """Compares the requests of one session with the recorded ones.

    Args:
        redact: The store's filter of what is logged; None if it has none.
        ignored: The parts that a comparison leaves out.
    """

    def __init__(self, redact: Redact | None, ignored: Ignored) -> None:
        self._redact = redact
        self._ignored = ignored
        # By the number of a recorded message: the message that was found equal to it, and True if
        # the two are equal only without the ignored parts.
        self._equal: dict[int, tuple[Content, bool]] = {}

    def compare(
        self,
        request: Request,
        attempt: RecordedAttempt,
        messages: Sequence[tuple[int, MessageEvent]],
    ) -> Comparison:
        """Compare a request with a recorded one.

        Args:
            request: The request that the agent makes now.
            attempt: The recorded attempt.
            messages: The numbers and events of the messages that the attempt sent, oldest first.

        Returns:
            The result, with a diff if the two differ.
        """
        settled = [self._settings(request, attempt), self._messages(request.messages, messages)]
        differs = tuple(name for names, _, _ in settled for name in names)
        if not differs:
            ignored = any(one for _, one, _ in settled)
            return Comparison("ignored") if ignored else SAME
        recorded = [line for _, _, (lines, _) in settled for line in lines]
        now = [line for _, _, (_, lines) in settled for line in lines]
        return Comparison("diverged", differs, diff_of(recorded, now))

    # -- messages

    def _messages(
        self, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
    ) -> _Settled:
        ignored, count = False, len(now)
        for index, (ordinal, event) in enumerate(recorded):
            if index >= count:
                return self._from(index, now, recorded)
            found = self._equal.get(ordinal)
            if found is None or found[0] is not now[index]:
                same = self._same_message(index, now[index], event)
                if same is None:
                    return self._from(index, now, recorded)
                found = self._equal[ordinal] = (now[index], not same)
            ignored = ignored or found[1]
        if count > len(recorded):
            return self._from(len(recorded), now, recorded)
        return (), ignored, ([], [])

    def _same_message(self, index: int, now: Content, event: MessageEvent) -> bool | None:
        """True if equal, False if equal only without the ignored parts, None if different."""
        recorded = content_of(event)
        if now == recorded:
            return True
        now = self.redacted_message(now, event)
        if now == recorded:
            return True
        place = ("messages", str(index))
        if self._ignored and self._plain(now, *place) == self._plain(recorded, *place):
            return False
        return None

    def redacted_message(self, now: Content, event: MessageEvent) -> Content:
        """Redact a message as if the event of the recorded message carried it.

        Args:
            now: The message that is sent now.
            event: The event that carries the recorded message.
        """
        if isinstance(event, LLMResponded):
            return now  # it is the recorded answer
        carried = msgspec.structs.replace(event, content=now)
        written = codec_event(carried, self._redact)
        return content_of(cast("MessageEvent", written)) if written is not None else now

    def _plain(self, content: Content, *place: str) -> object:
        return self._ignored.without(msgspec.to_builtins(content), *place)

    def _from(
        self, index: int, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
    ) -> _Settled:
        """Give the lines of the messages, from one before the first that differs."""
        before: list[str] = []
        after: list[str] = []
        for number in range(max(index - 1, 0), len(recorded)):
            before += message_lines(
                self._plain(content_of(recorded[number][1]), "messages", str(number))
            )
        for number in range(max(index - 1, 0), len(now)):
            content = now[number]
            if number < len(recorded):
                content = self.redacted_message(content, recorded[number][1])
            after += message_lines(self._plain(content, "messages", str(number)))
        return (_kind_of_message(index, now, recorded),), False, (before, after)

    # -- everything else

    def _settings(self, request: Request, attempt: RecordedAttempt) -> _Settled:
        requested, definition = attempt.requested, attempt.definition
        params = to_plain(without_secrets(request.params))
        now: dict[str, object] = {
            "model": request.model,
            "params": params,
            "tools": request.tools,
            "output_schema": request.output_schema,
            "tool_choice": request.tool_choice,
        }
        recorded: dict[str, object] = {
            "model": requested.model,
            "params": definition.params if requested.params is None else requested.params,
            "tools": definition.tools,
            "output_schema": definition.output_schema,
            "tool_choice": requested.tool_choice,
        }
        if now == recorded:
            return (), False, ([], [])
        written = codec_event(
            msgspec.structs.replace(
                definition,
                model=request.model,
                params=params,
                tools=request.tools,
                output_schema=request.output_schema,
            ),
            self._redact,
        )
        if isinstance(written, AgentDefined):
            now |= {
                "params": written.params,
                "tools": written.tools,
                "output_schema": written.output_schema,
            }
        differs: list[str] = []
        ignored = False
        before: list[str] = []
        after: list[str] = []
        for name in now:
            if now[name] == recorded[name]:
                continue
            plain = [
                self._ignored.without(msgspec.to_builtins(one[name]), name)
                for one in (recorded, now)
            ]
            if plain[0] == plain[1]:
                ignored = True
                continue
            differs.append(name)
            before += setting_lines(name, plain[0])
            after += setting_lines(name, plain[1])
        return tuple(differs), ignored, (before, after)

    # -- other texts

    def task(self, started: SessionStarted) -> object:
        """Give the task of a session, redacted as in the log and without the ignored parts."""
        written = codec_event(started, self._redact)
        task = written.task if isinstance(written, SessionStarted) else started.task
        return self.recorded_task(task)

    def plain_task(self, started: SessionStarted) -> object:
        """Give the task of a session without the ignored parts, but not redacted."""
        return self.recorded_task(started.task)

    def recorded_task(self, task: object) -> object:
        """Remove the ignored parts from a recorded task."""
        return self._ignored.without(task, "task")

    def tool(self, text: str, end: ToolReturned | ToolFailed) -> tuple[str, str]:
        """Give the present and the recorded text of a tool's result, as they are compared.

        Args:
            text: The text of the result now.
            end: The recorded end of the tool.
        """
        now = Content("tool", Content.of("tool", text).parts, call_id=end.content.call_id)
        written = self.redacted_message(now, end)
        texts = [self._ignored.without(one.text, "tool") for one in (written, end.content)]
        return str(texts[0]), str(texts[1])


# The names of what differs; True if something was ignored; the recorded and the present lines.
_Settled = tuple[tuple[str, ...], bool, tuple[list[str], list[str]]]


def content_of(event: MessageEvent) -> Content:
    """Give the message that an event carries."""
    return event.content


def codec_event(event: Event, redact: Redact | None) -> Event | None:
    """Redact, write and read back an event, to compare it with recorded ones.

    Args:
        event: The event.
        redact: The store's filter of what is logged; None if it has none.

    Returns:
        The event as a reader of the log gets it; None if `redact` left no valid payload.
    """
    values = codec.values(payload(event, redact))
    if not isinstance(values, dict):
        return None
    values.pop(COUNTS, None)
    try:
        return msgspec.convert(values, EVENTS[event.type])
    except msgspec.ValidationError:
        return None


def _kind_of_message(
    index: int, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
) -> str:
    roles = {now[index].role} if index < len(now) else set()
    if index < len(recorded):
        roles.add(content_of(recorded[index][1]).role)
    return "system prompt" if roles == {"system"} else "messages"


def message_lines(plain: object) -> Iterator[str]:
    """Format a message, given as JSON values, as lines of a diff."""
    if not isinstance(plain, dict):
        yield str(plain)
        return
    yield f"[{plain.get('role')}]"
    for part in _list(plain.get("parts")):
        if not isinstance(part, dict):
            yield str(part)
            continue
        if part.get("kind") != "text":
            yield f"({part.get('kind')})"
        yield from str(part.get("text") or "").splitlines()
        others = {key: part[key] for key in part if key not in ("kind", "text")}
        if others:
            yield _json(others)
    for call in _list(plain.get("tool_calls")):
        yield (
            f"-> {_json(call)}"
            if not isinstance(call, dict)
            else (f"-> {call.get('name')}({call.get('arguments', '')})  {call.get('id')}")
        )


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def setting_lines(name: str, plain: object) -> list[str]:
    """Format a setting of a request as lines of a diff.

    Args:
        name: The name of the setting, such as "model".
        plain: The value as JSON values.
    """
    if isinstance(plain, str) or plain is None:
        return [f"{name}: {plain if plain is not None else '-'}"]
    return [f"{name}:", *json.dumps(plain, indent=2, ensure_ascii=False, default=str).splitlines()]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def diff_of(
    recorded: Sequence[str], now: Sequence[str], names: tuple[str, str] = ("recorded", "now")
) -> str:
    """Make a unified diff of two texts.

    Args:
        recorded: The lines of the recorded text.
        now: The lines of the present text.
        names: The headings of the two texts in the diff.
    """
    lines = unified_diff(recorded, now, *names, n=_CONTEXT, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


def json_lines(value: object) -> list[str]:
    """Format a JSON value as lines; a text is split into its own lines."""
    if isinstance(value, str):
        return value.splitlines() or [""]
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines()


def task_key(task: object) -> bytes:
    """Encode a task as JSON with sorted keys, so that equal tasks have equal bytes."""
    try:
        return msgspec.json.encode(task, order="deterministic")
    except (UnicodeEncodeError, TypeError):
        return json.dumps(task, sort_keys=True, default=str).encode()
